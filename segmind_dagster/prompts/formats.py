"""The bytes of a prompt file -> a `Document`, whatever the form.

Decides the encoding, the size limit and which form a suffix means; each form is parsed in a module of
its own (`yaml_form`, `line_forms`, `csv_form`). Fields are checked later, in `fields`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.prompts.csv_form import read_csv
from segmind_dagster.prompts.document import Document, Form, Place
from segmind_dagster.prompts.line_forms import read_jsonl, read_txt
from segmind_dagster.prompts.yaml_form import parse_yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_FILE_BYTES = 10 * 1024 * 1024

FORMS: Mapping[str, Form] = {".yaml": "yaml", ".yml": "yaml", ".csv": "csv", ".jsonl": "jsonl", ".txt": "txt"}


def parse_prompt_file(data: bytes, *, file: str, form: Form) -> Document:
    """The fields of a prompt file, in the shape of the YAML form.

    Returns:
        The document; problems that leave the rest readable are noted in it.

    Raises:
        PromptSetError: nothing can be made of the file.
    """
    document = Document(file=file, form=form)
    text = _decode(data, document)
    if not text.strip():
        document.complain("the file is empty; write one prompt at least")
        document.stop()
    if form == "yaml":
        _read_yaml(text, document)
    elif form == "csv":
        read_csv(text, document)
    elif form == "jsonl":
        read_jsonl(text, document)
    else:
        read_txt(text, document)
    if not document.fields.get("prompts"):
        if not document.problems:
            document.complain("the file holds no prompts; write one at least", ("prompts",))
        document.stop()
    return document


def _decode(data: bytes, document: Document) -> str:
    if len(data) > MAX_FILE_BYTES:
        document.complain(f"the file is larger than {MAX_FILE_BYTES // 1024**2} MB; split it into several prompt sets")
        document.stop()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        document.complain("the file is not UTF-8 text; save it as UTF-8", place=Place(line=line))
        document.stop()
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        document.complain("the file holds a null character; save it as plain UTF-8 text", place=Place(line=line))
        document.stop()
    return text


def _read_yaml(text: str, document: Document) -> None:
    value = parse_yaml(text, document=document)
    if isinstance(value, dict):
        document.fields = value
    elif value is not None:
        document.complain(
            "a prompt set is a mapping of fields such as 'models:' and 'prompts:'; write the prompts in a list below "
            "'prompts:'",
            place=Place(line=1),
        )
