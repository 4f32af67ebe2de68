"""The core: what a generation is, what may happen to it next, what history proves, what money allows.

Pure: no I/O, no clock of its own, and nothing of this project but `errors` and `registry`. `generation` is the one
record that every layer passes on, `states` holds both transition tables, `failures` the failure kinds and their
policies (`error_text` classifies messages), `next_step` what may happen to a generation now, `matching` which history
row is which generation and what proves absence, `budget` caps and reservations, `plausibility` whether a cost is
plausible, `parsing` how a value is read.
"""
