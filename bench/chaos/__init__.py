"""Runs side by side, killed at random, against a sandbox that misbehaves; the provider's own books are the judge."""
