"""Commands of `segmind-dagster`, a module each; `cli` puts them together.

A command reads its arguments, calls one function and prints its answer; what it does belongs elsewhere.
"""
