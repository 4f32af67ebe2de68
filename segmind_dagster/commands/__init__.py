"""Commands of `segmind-dagster`, a module each (`export`, `pages`, `resolve`); `cli` puts them together.

A command reads its arguments, calls one function and prints its answer; what it does belongs elsewhere.
"""
