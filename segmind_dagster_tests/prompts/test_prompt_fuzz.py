"""Whatever a file holds: a prompt set or a `PromptSetError`, and never another error."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.errors import PromptSetError
from segmind_dagster.prompts import PromptSet, load_prompt_set
from segmind_dagster.prompts.fields import PromptFields, SetFields
from segmind_dagster.prompts.line_forms import LEADING_FIELDS
from segmind_dagster.registry import MODELS

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ["yaml", "csv", "jsonl", "txt"]
WORDS = sorted(
    {*SetFields.model_fields, *PromptFields.model_fields}
    | {model.resource for model in MODELS}
    | {name for model in MODELS for name in model.parameter_names}
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([*WORDS, "a {animal}", "{", "a fox", "16:9", "../x.png", "http://[", 7, 10**30, 2**63])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)
DOCUMENTS = st.dictionaries(
    st.sampled_from([*SetFields.model_fields, "extra"]), VALUES, max_size=6
) | st.fixed_dictionaries(
    {
        "prompts": st.lists(
            st.just("a {animal}") | st.dictionaries(st.sampled_from([*PromptFields.model_fields]), VALUES)
        )
    },
    optional=dict.fromkeys(LEADING_FIELDS, VALUES),
)
# pieces that mean something to one of the parsers
PIECES = st.sampled_from(
    [
        *WORDS,
        *"{}[],:#|>~'\" \n\t\0\x07\x85\u2028\ufeff",
        *("- ", "? ", ": ", "# seed: ", "&a ", "*a", "<<: ", "!!int ", "!x ", "\r\n", "---\n", "...\n", "%YAML 9.9\n"),
        *("0x" + "f" * 5000, "9" * 5000, "1e999", ".nan", "2026-99-99", '"\\ud800"', "prompts:\n", "prompt,"),
    ]
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check(folder: Path, suffix: str, content: bytes) -> None:
    path = folder / f"fuzz.{suffix}"
    path.write_bytes(content)
    try:
        outcome: PromptSet | PromptSetError = load_prompt_set(path, project_dir=folder)
    except PromptSetError as error:
        outcome = error
    if isinstance(outcome, PromptSetError):
        assert outcome.problems
        assert all(problem.file == path.name and problem.message for problem in outcome.problems)
        assert str(outcome)
    else:
        assert outcome.generations
        for request in outcome.generations:
            json.dumps(request.body, allow_nan=False)


@pytest.mark.parametrize("suffix", NAMES)
@given(content=st.binary(max_size=400))
def test_random_bytes(folder: Path, suffix: str, content: bytes) -> None:
    check(folder, suffix, content)


@pytest.mark.parametrize("suffix", NAMES)
@given(content=st.text(max_size=200))
def test_random_text(folder: Path, suffix: str, content: str) -> None:
    check(folder, suffix, content.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize("suffix", NAMES)
@given(pieces=st.lists(PIECES | st.text(max_size=5), max_size=40))
def test_random_combinations_of_valid_pieces(folder: Path, suffix: str, pieces: list[str]) -> None:
    check(folder, suffix, "".join(pieces).encode("utf-8", "surrogatepass"))


@given(document=DOCUMENTS)
def test_random_values_in_the_fields_of_a_yaml_file(folder: Path, document: dict[str, Any]) -> None:
    check(folder, "yaml", yaml.safe_dump(document, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(prompts=st.lists(VALUES, max_size=4))
def test_random_values_in_the_lines_of_a_jsonl_file(folder: Path, prompts: list[Any]) -> None:
    check(folder, "jsonl", "\n".join(json.dumps(prompt) for prompt in prompts).encode())


@given(
    rows=st.lists(
        st.lists(st.sampled_from(["", "a fox", "7", "x", "sdxl_newreality", "1e9", '"']), max_size=8), max_size=5
    )
)
def test_random_cells_in_a_csv_file(folder: Path, rows: list[list[str]]) -> None:
    header = "prompt,models,seed,samples,steps,negative_prompt,guidance_scale\n"
    check(folder, "csv", (header + "\n".join(",".join(row) for row in rows)).encode())


@pytest.mark.parametrize("suffix", NAMES)
@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "- " * 100_000,
        '{"a":' * 100_000,
        "? " * 50_000,
        "&a [" * 10_000,
        "a: &a [*a]",
        "a: &a [x, x]\n"
        + "".join(f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(24)),
        "defaults: &a "
        + "[" * 40
        + "]" * 40
        + "\nmodels: {wan_t2v_fast: {x: "
        + "[" * 40
        + "*a"
        + "]" * 40
        + "}}\nprompts: [a]",
    ],
    ids=["lists", "blocks", "objects", "keys", "anchors", "recursion", "billion-laughs", "depth-by-alias"],
)
def test_endless_nesting_and_aliases(folder: Path, suffix: str, content: str) -> None:
    check(folder, suffix, content.encode())
