"""CSV, JSONL and TXT: what their lines mean, and what is said of bad ones."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Project


def test_txt_is_one_prompt_a_line_with_comments_and_blank_lines(project: Project) -> None:
    loaded = project.load("\n# a note: with a colon\na fox\n\n  # seed: 9\n  an owl, late  \n", "set.txt")
    assert [r.prompt for r in loaded.generations] == ["a fox", "an owl, late"]
    assert loaded.generations[0].seed != 9


LEADING = (
    "# description: some foxes\n# models: [sdxl_newreality, wan_t2v_fast]\n# negative_prompt: blurry\n# samples: 2\n"
    "# seed: 7\n# variables: {light: [dawn, 1.50]}\n# sampling: {count: 1}\n# budget_usd: 0.5\n"
    "#max_unit_cost_usd: 0.25\n# auto_run: true\n"
)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("set.txt", "a fox at {light}\n"),
        ("set.jsonl", '"a fox at {light}"\n'),
        ("set.csv", "prompt\na fox at {light}\n"),
    ],
)
def test_leading_lines_set_the_fields_of_the_set(project: Project, name: str, data: str) -> None:
    loaded = project.load(LEADING + data, name)
    assert [model.resource for model in loaded.models] == ["sdxl_newreality", "wan_t2v_fast"]
    assert (loaded.description, loaded.auto_run) == ("some foxes", True)
    assert (loaded.budget_usd, loaded.max_unit_cost_usd) == (Decimal("0.5"), Decimal("0.25"))
    assert [(r.seed, r.negative_prompt) for r in loaded.generations] == [(7, "blurry"), (8, "blurry")] * 2
    assert loaded.generations[0].prompt in {"a fox at dawn", "a fox at 1.50"}


def test_leading_defaults_and_images_work_as_in_yaml(project: Project) -> None:
    content = "# models: [instantid]\n# image: https://example.com/a.png\n# defaults: {style: Neon}\na man\n"
    (request,) = project.load(content, "set.txt").generations
    assert (request.body["face_image"], request.body["style"]) == ("https://example.com/a.png", "Neon")


@pytest.mark.parametrize("name", ["set.txt", "set.jsonl", "set.csv"])
@pytest.mark.parametrize(("word", "meant"), [("model", "models"), ("seeds", "seed"), ("Budget_USD", "budget_usd")])
def test_a_leading_comment_that_nearly_names_a_field_is_a_problem(
    project: Project, name: str, word: str, meant: str
) -> None:
    data = {"set.txt": "a fox", "set.jsonl": '"a fox"', "set.csv": "prompt\na fox"}[name]
    problem = project.problem(f"# hello\n# {word}: 5\n{data}\n", name)
    assert (problem.file, problem.line) == (name, 2)
    assert f"'# {word}:' is not a field of a prompt set. Did you mean '# {meant}:'?" in problem.message


@pytest.mark.parametrize(
    ("line", "words", "field"),
    [
        ("# seed: [1", "this is not valid YAML", None),
        ("# seed: x", "must be a whole number", "seed"),
        ("# defaults: {steps: 99}", "99 is above the maximum", "defaults.steps"),
        ("# variables: {a: [b]}", "no prompt uses the variable 'a'", "variables.a"),
    ],
)
def test_a_bad_leading_field_is_a_problem_on_its_line(
    project: Project, line: str, words: str, field: str | None
) -> None:
    problem = project.problem(f"# hello\n{line}\na fox\n", "set.txt")
    assert (problem.line, problem.field) == (2, field)
    assert words in problem.message


def test_a_leading_field_given_twice_is_a_problem(project: Project) -> None:
    problem = project.problem("# seed: 1\n# seed: 2\na fox\n", "set.txt")
    assert (problem.line, problem.field) == (2, "seed")
    assert "'seed' is given twice" in problem.message


def test_a_problem_in_a_txt_line_names_the_line(project: Project) -> None:
    problem = project.problem("# note\na fox\n\na {fox\n", "set.txt")
    assert str(problem).startswith("set.txt, line 4, prompt: '{' is not a placeholder")


def test_jsonl_takes_texts_and_the_fields_of_a_prompt(project: Project) -> None:
    loaded = project.load(
        '"a fox"\n# a comment\n\n{"prompt": "an owl", "params": {"steps": 3}, "seed": [1, 2]}\n'
        '{"prompt": "a {x}", "variables": {"x": ["b"]}, "models": ["sdxl_newreality"], '
        '"negative_prompt": "blur", "samples": 2}\n',
        "set.jsonl",
    )
    assert [(r.prompt, r.model.resource) for r in loaded.generations] == [
        ("a fox", "fast_flux_schnell"),
        ("an owl", "fast_flux_schnell"),
        ("an owl", "fast_flux_schnell"),
        ("a b", "sdxl_newreality"),
        ("a b", "sdxl_newreality"),
    ]


@pytest.mark.parametrize(
    ("line", "field", "words"),
    [
        ('{"prompt": ', None, "this line is not valid JSON: Expecting value at column"),
        ("a fox", None, "this line is not valid JSON"),
        ("7", None, 'each line is a JSON object such as {"prompt": "a fox"}, or a text in double quotes'),
        ("[]", None, "each line is a JSON object"),
        ('{"prompt": "a", "prompt": "b"}', None, "'prompt' is given twice"),
        ('{"prompt": "a", "seed": NaN}', None, "NaN is not a number that JSON allows"),
        ('{"prompt": "a\\u0000"}', None, "holds a null character"),
        ('{"prompt": "\\ud800"}', None, "half of a surrogate pair"),
        ('{"prompt": "a", "seed": ' + "9" * 5000 + "}", None, "a number here has too many digits"),
        ('{"prompt": "a", "seed": "7"}', "seed", "must be a whole number or a list of them, not '7'"),
        ('{"prompt": "a", "sed": 7}', "sed", "Did you mean 'seed'?"),
        ('{"prompt": "a", "params": {"steps": 99}}', "params.steps", "99 is above the maximum"),
        ('{"params": {}}', "prompt", "is missing; it is required"),
        ('{"prompt": null}', "prompt", "must be a text, not empty"),
        ('""', "prompt", "the prompt is empty"),
    ],
)
def test_a_bad_jsonl_line_is_a_problem_on_its_line(project: Project, line: str, field: str | None, words: str) -> None:
    problem = project.problem(f'"a fox"\n\n{line}\n"an owl"\n', "set.jsonl")
    assert (problem.file, problem.line, problem.field) == ("set.jsonl", 3, field)
    assert words in problem.message


def test_csv_columns_are_fields_and_parameters_of_their_kind(project: Project) -> None:
    loaded = project.load(
        "# models: [instantid]\n"
        "prompt,models,negative_prompt,seed,samples,image,num_inference_steps,guidance_scale,enhance_face_region,style\n"
        '"a man, smiling",,blur,7,2,https://example.com/a.png,12,2.5,TRUE,Neon\n'
        "a fox,sdxl_newreality|fast-flux-schnell,,,,,,,,\n"
        "\n"
        "an owl, fast_flux_schnell ; sdxl_newreality ,,9,,,,,,\n",
        "set.csv",
    )
    first, second, *rest = loaded.generations
    assert first.body == {
        "prompt": "a man, smiling",
        "negative_prompt": "blur",
        "seed": 7,
        "face_image": "https://example.com/a.png",
        "num_inference_steps": 12,
        "guidance_scale": 2.5,
        "enhance_face_region": True,
        "style": "Neon",
    }
    assert second.seed == 8
    assert [(r.prompt, r.model.resource) for r in rest] == [
        ("a fox", "sdxl_newreality"),
        ("a fox", "fast_flux_schnell"),
        ("an owl", "fast_flux_schnell"),
        ("an owl", "sdxl_newreality"),
    ]


def test_csv_accepts_a_byte_order_mark_and_short_rows_and_cells_of_several_lines(project: Project) -> None:
    content = b'\xef\xbb\xbfprompt,steps\r\n"a fox\r\nin snow",3\r\nan owl\r\n'
    assert [r.prompt for r in project.load(content, "set.csv").generations] == ["a fox\nin snow", "an owl"]


def test_a_hash_after_the_header_is_data(project: Project) -> None:
    assert [r.prompt for r in project.load("prompt\n# 1 fan\n", "set.csv").generations] == ["# 1 fan"]


@pytest.mark.parametrize(
    ("rows", "row", "field", "words"),
    [
        ("x,3,1,surplus", 3, None, "the row has 4 cells, but the header names 3; put a text that holds a comma"),
        ("x,three,1", 3, "steps", "'three' is not a whole number"),
        ("x,3.0,1", 3, "steps", "'3.0' is not a whole number"),
        ("x,99,1", 3, "steps", "99 is above the maximum of 8 (fast_flux_schnell)"),
        ("x,3,1.5", 3, "seed", "'1.5' is not a whole number"),
        ("x,3,-5", 3, "seed", "-5 is below the minimum"),
        (",3,1", 3, "prompt", "the cell is empty; every row needs a prompt"),
        ("a {b},3,1", 3, "prompt", "the placeholder {b} has no variable"),
    ],
)
def test_a_bad_csv_row_is_a_problem_with_the_number_of_the_row(
    project: Project, rows: str, row: int, field: str | None, words: str
) -> None:
    problem = project.problem(f"# note\nprompt,steps,seed\na fox,3,1\n\nan owl,3,1\n{rows}\n", "set.csv")
    assert (problem.file, problem.row, problem.line, problem.field) == ("set.csv", row, 6, field)
    assert words in problem.message


def test_boolean_and_number_cells_are_checked(project: Project) -> None:
    header = "# models: [instantid]\n# image: https://example.com/a.png\nprompt,enhance_face_region,guidance_scale\n"
    assert "'yes' is not true or false" in project.problem(header + "a,yes,\n", "set.csv").message
    assert "'much' is not a number" in project.problem(header + "a,,much\n", "set.csv").message


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        ("prompt,step\na,1\n", 1, "nor a parameter of the models aimed at. Did you mean 'steps'?"),
        ("prompt,base64\na,true\n", 1, "the column 'base64' is neither"),
        ("prompt,scheduler\na,x\n", 1, "the column 'scheduler' is neither"),
        ("text,steps\na,1\n", 1, "the header has no column 'prompt'"),
        ("prompt;steps\na;1\n", 1, "separated by commas. It names: prompt;steps"),
        ("prompt,steps,steps\na,1,2\n", 1, "the column 'steps' is named 2 times"),
        ("prompt,\na,surplus\n", 1, "column 2 holds values but has no name"),
        ('prompt\n"a fox\n', 2, "this is not valid CSV: a quoted cell is never closed"),
        ('prompt\n"a" fox\n', 2, "this is not valid CSV"),
        ("prompt\n", None, "the file holds no prompts"),
    ],
)
def test_a_bad_csv_table_is_a_problem(project: Project, content: str, line: int | None, words: str) -> None:
    problem = project.problem(content, "set.csv")
    assert problem.line == line
    assert words in problem.message


def test_a_column_that_only_some_models_know_is_a_problem_only_where_it_is_filled(project: Project) -> None:
    header = "prompt,models,scheduler\n"
    assert project.load(header + "a,sdxl_newreality,karras\nb,,\n", "set.csv").generations
    problem = project.problem(header + "a,sdxl_newreality,karras\nb,fast_flux_schnell,karras\n", "set.csv")
    assert (problem.row, problem.field) == (2, "scheduler")
