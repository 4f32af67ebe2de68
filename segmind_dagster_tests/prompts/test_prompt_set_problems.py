"""Every bad input has a problem that names the file, the place, the field and the way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from segmind_dagster.errors import PromptSetError
from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.prompts.formats import MAX_FILE_BYTES

if TYPE_CHECKING:
    from conftest import Project

# the fields of a set above one good prompt -> line, field, words of the message
SET_FIELDS = [
    (
        "model: [a]",
        1,
        "model",
        "'model' is not a field of a prompt set. Did you mean 'models'? Its fields are: auto_run",
    ),
    ("<<: {a: 1}", 1, "<<", "'<<' is not a field of a prompt set"),
    ("description: [a]", 1, "description", "must be a text, not a list"),
    ("description: 2026", 1, "description", "must be a text, not 2026; put it in quotes if it is meant as one"),
    ("models: []", 1, "models", "must be a list of model names, or a mapping"),
    ("models: [7]", 1, "models", "must be a list of model names, or a mapping"),
    ("models: {wan_t2v_fast: 7}", 1, "models", "must be a list of model names, or a mapping"),
    (
        "models:\n  - wan_t2v_fast\n  - wan_fast",
        3,
        "models[1]",
        "no model 'wan_fast'. Did you mean 'wan_t2v_fast'? Models are:",
    ),
    ("models: {sdxl: {}}", 1, "models.sdxl", "there is no model 'sdxl'"),
    ("models: [wan_t2v_fast, wan-2.2-t2v-fast]", 1, "models[1]", "wan_t2v_fast is named twice"),
    ("models: {fast_flux_schnell: {steps: 9}}", 1, "models.fast_flux_schnell.steps", "9 is above the maximum of 8"),
    (
        "models:\n  sdxl_newreality:\n    negative_prompt: 7",
        3,
        "models.sdxl_newreality.negative_prompt",
        "must be a text",
    ),
    (
        "models: {fast_flux_schnell: {negative_prompt: a}}",
        1,
        "models.fast_flux_schnell.negative_prompt",
        "takes no negative prompt",
    ),
    ("defaults: [a]", 1, "defaults", "must be a mapping of names to values, not a list"),
    (
        "defaults:\n  step: 4",
        2,
        "defaults.step",
        "'step' is not a parameter of fast_flux_schnell. Did you mean 'steps'? Its parameters are: aspect_ratio, steps",
    ),
    ("defaults: {steps: four}", 1, "defaults.steps", "'four' is not a value of type integer (fast_flux_schnell)"),
    ("defaults: {steps: 4.5}", 1, "defaults.steps", "4.5 is not a value of type integer"),
    ("defaults: {steps: true}", 1, "defaults.steps", "True is not a value of type integer"),
    ("defaults: {steps: 0}", 1, "defaults.steps", "0 is below the minimum of 1"),
    ("defaults: {steps: }", 1, "defaults.steps", "has no value; give one, or leave the parameter out"),
    ("defaults: {aspect_ratio: '4:3'}", 1, "defaults.aspect_ratio", "'4:3' is not one of 1:1, 16:9"),
    ("defaults: {base64: true}", 1, "defaults.base64", "how answers travel is decided by the project"),
    ("defaults: {samples: 2}", 1, "defaults.samples", "'samples' is a field, not a parameter"),
    ("defaults: {seed: 2}", 1, "defaults.seed", "'seed' is a field, not a parameter"),
    ("defaults: {prompt: a}", 1, "defaults.prompt", "'prompt' is a field, not a parameter"),
    ("defaults: {negative_prompt: a}", 1, "defaults.negative_prompt", "'negative_prompt' is a field, not a parameter"),
    ("defaults: {image: a.png}", 1, "defaults.image", "'image' is a field, not a parameter of fast_flux_schnell"),
    ("negative_prompt: blurry", 1, "negative_prompt", "fast_flux_schnell takes no negative prompt"),
    ("samples: 0", 1, "samples", "must be from 1 to 100,000, not 0"),
    ("samples: 100001", 1, "samples", "must be from 1 to 100,000, not 100001"),
    ("samples: 2.0", 1, "samples", "must be a whole number, not 2.0"),
    ("samples: true", 1, "samples", "must be a whole number, not true"),
    ("samples: two", 1, "samples", "must be a whole number, not 'two'"),
    ("seed: true", 1, "seed", "must be a whole number or a list of them, not true"),
    ("seed: '7'", 1, "seed", "must be a whole number or a list of them, not '7'"),
    ("seed: 7.0", 1, "seed", "must be a whole number or a list of them, not 7.0"),
    ("seed: [1, x]", 1, "seed", "must be a whole number or a list of them, not 'x'"),
    ("seed: []", 1, "seed", "is an empty list"),
    ("seed: -2", 1, "seed", "-2 is below the minimum of -1 (fast_flux_schnell)"),
    ("seed: [1, -2]", 1, "seed", "-2 is below the minimum of -1"),
    ("seed: 9223372036854775808", 1, "seed", "must fit into 64 bits"),
    ("seed: 9223372036854775807\nsamples: 2", 1, "seed", "9223372036854775808 is above the maximum"),
    ("seed: [1, 2]\nsamples: 2", 2, "samples", "2 samples of a list of seeds cannot be"),
    ("variables: [a]", 1, "variables", "must be a mapping of names to values, not a list"),
    ("variables: {a: fox}", 1, "variables.a", "must be a list of one value or more, such as [fox, owl]"),
    ("variables: {a: []}", 1, "variables.a", "must be a list of one value or more"),
    ("variables: {a: [[x]]}", 1, "variables.a", "a list is not a text"),
    ("variables: {a: [~]}", 1, "variables.a", "empty is not a text; put it in quotes"),
    (
        "variables:\n  animal: [fox]",
        2,
        "variables.animal",
        "no prompt uses the variable 'animal'; write {animal} in a prompt",
    ),
    ("sampling: 10", 1, "sampling", "must be a mapping of names to values, not 10"),
    ("sampling: {seed: 1}", 1, "sampling.count", "is missing; it is required"),
    ("sampling: {count: 0}", 1, "sampling.count", "must be from 1 to 100,000, not 0"),
    (
        "sampling: {count: 1, seeds: 3}",
        1,
        "sampling.seeds",
        "'seeds' is not a field of 'sampling'. Did you mean 'seed'?",
    ),
    ("image: [a.png]", 1, "image", "must be a text, not a list"),
    ("budget_usd: 0", 1, "budget_usd", "must be more than 0"),
    ("budget_usd: -1", 1, "budget_usd", "must be more than 0"),
    ("budget_usd: five", 1, "budget_usd", "must be an amount in US dollars such as 2.50, not 'five'"),
    ("budget_usd: .nan", 1, "budget_usd", "must be an amount in US dollars"),
    ("budget_usd: true", 1, "budget_usd", "must be an amount in US dollars such as 2.50, not true"),
    ("budget_usd: [5]", 1, "budget_usd", "must be an amount in US dollars such as 2.50, not a list"),
    ("max_unit_cost_usd: 1e300", 1, "max_unit_cost_usd", "must be more than 0 and at most 1,000,000,000"),
    ("max_unit_cost_usd: 1e-12", 1, "max_unit_cost_usd", "more than 9 decimal places"),
    ("auto_run: 1", 1, "auto_run", "must be true or false, not 1"),
    ("auto_run: yes", 1, "auto_run", "must be true or false, not 'yes'"),
    ("seed: 1\nseed: 2", 2, "seed", "'seed' is given twice; remove one of them"),
    ("defaults:\n  steps: 1\n  steps: 2", 3, "defaults.steps", "'steps' is given twice"),
]

# one prompt below `prompts:` -> line, field, words of the message
PROMPTS = [
    ("- 7", 2, "prompts[0]", "must be a text in quotes, or a mapping of a prompt's fields, not 7"),
    ("-", 2, "prompts[0]", "must be a text in quotes, or a mapping of a prompt's fields, not empty"),
    ("- ''", 2, "prompts[0].prompt", "the prompt is empty; write what to generate"),
    ("- prompt: ' '", 2, "prompts[0].prompt", "the prompt is empty"),
    ("- prompt: [a]", 2, "prompts[0].prompt", "must be a text, not a list"),
    ("- seed: 7", 2, "prompts[0].prompt", "is missing; it is required"),
    ("- prompt: a\n  sed: 7", 3, "prompts[0].sed", "'sed' is not a field of a prompt. Did you mean 'seed'?"),
    ("- prompt: a\n  params:\n    steps: 99", 4, "prompts[0].params.steps", "99 is above the maximum of 8"),
    ("- prompt: a\n  params: 3", 3, "prompts[0].params", "must be a mapping of names to values, not 3"),
    ("- prompt: a\n  models: {wan_t2v_fast: {}}", 3, "prompts[0].models", "must be a list of model names; give"),
    ("- prompt: a\n  models: [wan_t3v]", 3, "prompts[0].models[0]", "there is no model 'wan_t3v'"),
    ("- prompt: a\n  negative_prompt: b", 3, "prompts[0].negative_prompt", "takes no negative prompt"),
    ("- prompt: a\n  samples: 0", 3, "prompts[0].samples", "must be from 1 to 100,000"),
    ("- prompt: a\n  seed: [1, 2]\n  samples: 2", 4, "prompts[0].samples", "2 samples of a list of seeds cannot be"),
    ("- prompt: a\n  seed: x", 3, "prompts[0].seed", "must be a whole number"),
    ("- prompt: a\n  seed: -9", 3, "prompts[0].seed", "-9 is below the minimum"),
    ("- prompt: a\n  variables: {b: [c]}", 3, "prompts[0].variables.b", "the prompt does not use the variable 'b'"),
    ("- prompt: a {1b}\n  variables: {1b: [c]}", 3, "prompts[0].variables.1b", "'1b' cannot be a placeholder"),
    ("- prompt: a\n  image: x.png", 3, "prompts[0].image", "fast_flux_schnell takes no image"),
    ("- a {fox", 2, "prompts[0].prompt", "'{' is not a placeholder such as {animal}; for literal braces write"),
    ("- a {fox}", 2, "prompts[0].prompt", "the placeholder {fox} has no variable. Add 'fox' to 'variables', or"),
    ("- a\n- a {{}", 3, "prompts[1].prompt", "'}' is not a placeholder"),
    ("- prompt: a\n  prompt: b", 3, "prompts[0].prompt", "'prompt' is given twice"),
]


@pytest.mark.parametrize(("fields", "line", "field", "words"), SET_FIELDS)
def test_a_bad_field_of_the_set(project: Project, fields: str, line: int, field: str, words: str) -> None:
    problem = project.problem(f"{fields}\nprompts: [a fox]\n")
    assert (problem.file, problem.line, problem.row, problem.field) == ("set.yaml", line, None, field)
    assert words in problem.message


@pytest.mark.parametrize(("prompts", "line", "field", "words"), PROMPTS)
def test_a_bad_field_of_a_prompt(project: Project, prompts: str, line: int, field: str, words: str) -> None:
    problems = project.problems(f"prompts:\n{prompts}\n")
    assert all(problem.file == "set.yaml" for problem in problems)
    assert [(p.line, p.field) for p in problems if words in p.message] == [(line, field)], problems


def test_one_problem_reads_as_a_sentence_with_its_place(project: Project) -> None:
    assert str(project.problem("prompts:\n  - a fox\n  - prompt: an owl\n    params: {steps: 99}\n")) == (
        "set.yaml, line 4, prompts[1].params.steps: 99 is above the maximum of 8 (fast_flux_schnell)"
    )


def test_all_problems_come_at_once_in_the_order_of_the_file(project: Project) -> None:
    problems = project.problems(
        "descripton: a\nseed: x\ndefaults: {stps: 1}\nprompts:\n  - a {fox}\n  - {prompt: b, sede: 1}\n"
        "  - {prompt: c, params: {steps: 99}}\n"
    )
    assert [(problem.line, problem.field) for problem in problems] == [
        (1, "descripton"),
        (2, "seed"),
        (3, "defaults.stps"),
        (5, "prompts[0].prompt"),
        (6, "prompts[1].sede"),
        (7, "prompts[2].params.steps"),
    ]


def test_a_faulty_prompt_does_not_make_the_variables_it_uses_look_unused(project: Project) -> None:
    problem = project.problem("variables: {a: [b]}\nprompts: [{prompt: '{a}', sede: 1}, c]\n")
    assert problem.field == "prompts[0].sede"


def test_a_placeholder_close_to_a_variable_gets_a_suggestion(project: Project) -> None:
    problems = project.problems("variables: {animal: [fox]}\nprompts: ['a {anmal}']\n")
    assert "{anmal} has no variable. Did you mean 'animal'?" in problems[1].message


def test_a_prompt_that_begins_with_a_placeholder_outside_quotes_is_explained(project: Project) -> None:
    problems = project.problems("variables: {animal: [fox]}\nprompts:\n  - {animal}\n")
    assert any("put the whole prompt in quotes" in problem.message for problem in problems)
    assert "must stand in quotes" in project.problem("prompts:\n  - {animal} in snow\n").message


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", None, "the file is empty; write one prompt at least"),
        (b"  \n\n", None, "the file is empty"),
        (b"# only a comment\n", None, "the file holds no prompts"),
        (b"description: a\n", None, "the file holds no prompts; write one at least"),
        (b"prompts:\n", 1, "the file holds no prompts"),
        (b"prompts: []\n", 1, "the file holds no prompts"),
        (b"- a fox\n- an owl\n", 1, "a prompt set is a mapping of fields such as 'models:' and 'prompts:'"),
        (b"a fox\n", 1, "a prompt set is a mapping of fields"),
        (b"prompts: a fox\n", 1, "must be a list, not 'a fox'"),
        (b"prompts:\n  - caf\xe9\n", 2, "the file is not UTF-8 text; save it as UTF-8"),
        ("prompts: [a]\n".encode("utf-16"), 1, "the file is not UTF-8 text"),
        (b"prompts:\n  - a\0b\n", 2, "the file holds a null character"),
        (b'prompts:\n  - "a\\0b"\n', 2, "a text here holds a null character"),
        (b'prompts:\n  - "a\\ud800b"\n', 2, ""),
        (b"prompts:\n  - a\x07b\n", 2, "remove that character"),
        (b"prompts:\n\t- a\n", 2, "a tab stands where YAML allows only spaces; indent with spaces"),
        (b"prompts:\n  - a\n - b\n", 3, "this is not valid YAML"),
        (b"prompts:\n  - a: b: c\n", 2, "or that holds ': ' or ' #', must stand in quotes"),
        (b"prompts:\n  - 'a fox\n\n", 2, "this is not valid YAML"),
        (b"prompts: [a]\n---\nprompts: [b]\n", 2, "a second YAML document begins here"),
        (b"prompts: [*a]\n", 1, "nothing before this place is called '&a'"),
        (b"prompts: [!!python/object:x.y a]\n", 1, "is not supported; remove it"),
        (b"prompts: !x [a]\n", 1, "the tag '!x' is not supported; remove it"),
        (b"? [a]\n: b\n", 1, "a field name must be plain text"),
    ],
)
def test_an_unusable_file_is_a_problem(project: Project, content: bytes, line: int | None, words: str) -> None:
    problem = project.problem(content)
    assert problem.line == line
    assert words in problem.message


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_an_empty_file_of_any_form_is_a_problem(project: Project, suffix: str) -> None:
    assert "the file is empty" in project.problem("\n", f"set.{suffix}").message
    assert "the file holds no prompts" in project.problem("# seed: 7\n", f"set.{suffix}").message


def test_a_set_that_is_too_large_shows_its_count_and_what_multiplies(project: Project) -> None:
    values = ", ".join(str(number) for number in range(101))
    problem = project.problem(
        f"variables: {{a: [{values}], b: [{values}]}}\nsamples: 10\nprompts: [one, 'two {{a}} {{b}}']\n"
    )
    assert problem.field == "prompts[1]"
    assert "asks for 102,020 generations, and 100,000 is the most" in problem.message
    assert "the largest prompt multiplies a (101) x b (101) x samples (10), for 1 model" in problem.message


def test_a_huge_count_is_still_one_sentence(project: Project) -> None:
    variables = "".join(f"  v{number}: [a, b, c, d, e, f, g, h]\n" for number in range(6000))
    prompt = "".join(f"{{v{number}}}" for number in range(6000))
    problem = project.problem(f"variables:\n{variables}prompts: ['{prompt}']\n")
    assert "asks for more than 1,000,000,000,000 generations" in problem.message


def test_prompts_are_limited_once_they_are_filled_in(project: Project) -> None:
    content = f"variables: {{a: [{'x' * 15_000}]}}\nprompts:\n  - fits {{a}}\n  - '{{a}} and {{a}}'\n"
    problem = project.problem(content)
    assert (problem.line, problem.field) == (4, "prompts[1].prompt")
    assert "the prompt has 30,005 characters, and 20,000 is the most" in problem.message


def test_a_prompt_that_becomes_empty_is_a_problem(project: Project) -> None:
    problem = project.problem("variables: {a: ['', fox]}\nprompts: ['{a}']\n")
    assert "the prompt is empty once its placeholders are filled in" in problem.message


def test_numbers_that_are_not_finite_are_refused_where_nothing_else_is_checked(project: Project) -> None:
    problem = project.problem("models: {wan_t2v_fast: {x: [.inf]}}\nprompts: [a]\n")
    assert "not finite" in problem.message


def test_the_messages_parameter_of_a_chat_model_is_the_prompts(project: Project) -> None:
    problem = project.problem("models: {llama_v3p1_8b_instruct: {messages: []}}\nprompts: [a]\n")
    assert "gets the prompt there" in problem.message


def test_a_file_of_more_than_ten_megabytes_is_a_problem(project: Project) -> None:
    problem = project.problem(b"#" * (MAX_FILE_BYTES + 1), "set.txt")
    assert "larger than 10 MB; split it" in problem.message


def test_files_that_cannot_be_read_are_problems(project: Project) -> None:
    with pytest.raises(PromptSetError, match="cannot be read: No such file"):
        load_prompt_set(project.prompts / "gone.yaml", project_dir=project.folder)
    (project.prompts / "folder.yaml").mkdir()
    with pytest.raises(PromptSetError, match="not a regular file"):
        load_prompt_set(project.prompts / "folder.yaml", project_dir=project.folder)
    with pytest.raises(PromptSetError, match=r"ends in one of \.csv, \.jsonl, \.txt, \.yaml, \.yml"):
        load_prompt_set(project.write("set.json", "{}"), project_dir=project.folder)
