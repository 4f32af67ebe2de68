"""The core: what a generation is, what may happen to it next, what history proves and what money allows.

Pure: no I/O, no clock of its own, and nothing of this project but `errors`. `states` holds both transition tables,
`failures` the failure kinds and their policies, `matching` which history row is which generation and what proves
absence, `budget` caps and reservations, `next_step` what may happen to a generation now.
"""
