"""Everything Dagster: the only package that imports it.

`build` composes, `partitions`, `resources` and `translator` name things, `assets` hold thin bodies, `metadata`
turns reports into what the UI shows, `checks` tell what is not as it should be, `sensors` and `schedules` start runs,
`demo` runs it all once.
What a body does is decided elsewhere: in `runner`, `source` and `reports`.
"""
