"""The HTTP of generation: submit, poll, fetch, look up, upload; and what each answer means.

`client` speaks, `repeating` asks again what is free and `pace` how fast, `answers` and `wire` read what comes back,
`errors` says what went wrong, `history` reads the request history whole, `fetching` streams outputs, `addresses` says
which hosts are believed, `redaction` keeps keys and signed URLs out of every message. Deciding what to do next belongs
to `runner`; what an error means for a generation, to `lifecycle.failures`.
"""
