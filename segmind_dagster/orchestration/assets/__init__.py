"""Asset definitions, one module a group. Bodies are thin: they call, log and return metadata."""
