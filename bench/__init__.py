"""Measures the product against simpler things that do the same work, in one run, as ratios."""
