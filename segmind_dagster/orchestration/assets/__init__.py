"""Asset definitions, one module a group. Bodies are thin: they call, log and return metadata.

`prompt_sets` reads and prices a file, `models` generates and loads, `usage`, `spend` and `usage_report` sum up,
`gallery` shows outputs, `account` loads what Segmind says of the account.
"""
