"""The HTTP of generation: submit, poll, fetch, look up, upload; and what each answer means.

`client` speaks, `repeating` asks again what is free, `wire` reads shapes, `failures` says what went wrong and what may
follow, `redaction` keeps keys and signed URLs out of every message. Deciding what to do next belongs to `runner`.
"""
