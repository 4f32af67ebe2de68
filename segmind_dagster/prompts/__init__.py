"""Prompt files -> values: one file is one prompt set, one prompt set is one partition.

`folder` finds files and `keys` says what they may be called, `loading` reads one: `formats` turns bytes into a
`document` of fields with their lines (`yaml_form`, `csv_form`, `line_forms`), `fields`, `parameters`, `images` and
`placeholders` check them, `batches` and `expansion` multiply them into generations, `identity` says which are the same,
`model` is the set that comes out.
Prices, budgets and what was already paid for are the business of `planning` and the ledger.
"""

from segmind_dagster.prompts.folder import PromptFolder, find_prompt_set, scan_prompts
from segmind_dagster.prompts.identity import generation_id
from segmind_dagster.prompts.loading import load_prompt_set
from segmind_dagster.prompts.model import PromptSet

__all__ = [
    "PromptFolder",
    "PromptSet",
    "find_prompt_set",
    "generation_id",
    "load_prompt_set",
    "scan_prompts",
]
