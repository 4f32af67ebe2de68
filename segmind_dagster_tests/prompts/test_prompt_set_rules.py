"""What a well-formed prompt file means."""

from __future__ import annotations

from decimal import Decimal
from math import prod
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segmind_dagster.prompts import load_prompt_set
from segmind_dagster.prompts.expansion import combinations
from segmind_dagster.prompts.fields import Sampling

if TYPE_CHECKING:
    from conftest import Project


def prompts_of(project: Project, content: str | bytes, name: str = "set.yaml") -> list[str]:
    return [request.prompt for request in project.load(content, name).generations]


def test_a_list_of_prompts_is_enough_and_uses_the_default_model(project: Project) -> None:
    loaded = project.load("prompts:\n  - a fox\n  - an owl\n")
    assert [(r.prompt, r.model.resource, r.position, r.sample) for r in loaded.generations] == [
        ("a fox", "fast_flux_schnell", 0, 0),
        ("an owl", "fast_flux_schnell", 1, 0),
    ]
    assert (loaded.key, loaded.description, loaded.budget_usd, loaded.max_unit_cost_usd) == ("set", None, None, None)
    assert loaded.auto_run is False
    assert {r.prompt_set for r in loaded.generations} == {"set"}


def test_the_body_holds_what_was_given_and_the_seed_and_no_registry_defaults(project: Project) -> None:
    (request,) = project.load("prompts: [a fox]\ndefaults: {steps: 3}\n").generations
    assert request.body == {"prompt": "a fox", "steps": 3, "seed": request.seed}


def test_every_field_of_the_set_is_read(project: Project) -> None:
    loaded = project.load(
        "description: some foxes\nmodels: [sdxl1.0-newreality-lightning, wan_t2v_fast]\nnegative_prompt: blurry\n"
        "samples: 2\nseed: 7\nbudget_usd: 0.1\nmax_unit_cost_usd: '0.20'\nauto_run: true\nprompts: [a fox]\n"
    )
    assert loaded.description == "some foxes"
    assert [model.resource for model in loaded.models] == ["sdxl_newreality", "wan_t2v_fast"]
    assert (loaded.budget_usd, loaded.max_unit_cost_usd, loaded.auto_run) == (Decimal("0.1"), Decimal("0.20"), True)
    assert [(r.body["seed"], r.sample, r.negative_prompt) for r in loaded.generations] == [
        (7, 0, "blurry"),
        (8, 1, "blurry"),
    ] * 2


def test_models_come_in_registry_order_and_requests_can_be_had_by_model(project: Project) -> None:
    loaded = project.load(
        "models: [sdxl_newreality, fast_flux_schnell]\nprompts: [one, {prompt: two, models: wan_t2v_fast}]\n"
    )
    assert [model.resource for model in loaded.models] == ["fast_flux_schnell", "sdxl_newreality", "wan_t2v_fast"]
    assert [r.prompt for r in loaded.generations_of("fast_flux_schnell")] == ["one"]
    assert [r.prompt for r in loaded.generations_of("wan_t2v_fast")] == ["two"]
    assert loaded.generations_of("instantid") == ()


def test_a_prompts_parameters_win_over_the_models_and_those_over_the_defaults(project: Project) -> None:
    loaded = project.load(
        "defaults: {steps: 1, aspect_ratio: '1:1'}\nmodels: {fast_flux_schnell: {steps: 2}}\n"
        "prompts:\n  - one\n  - {prompt: two, params: {steps: 3}}\n"
    )
    assert [(r.body["steps"], r.body["aspect_ratio"]) for r in loaded.generations] == [(2, "1:1"), (3, "1:1")]


def test_the_nearest_negative_prompt_wins_and_an_empty_one_means_none(project: Project) -> None:
    loaded = project.load(
        "negative_prompt: of the set\nmodels: {sdxl_newreality: {negative_prompt: of the model}, wan_t2v_fast: }\n"
        "prompts:\n  - one\n  - {prompt: two, negative_prompt: of the prompt}\n"
        "  - {prompt: three, negative_prompt: ''}\n"
    )
    assert [r.negative_prompt for r in loaded.generations_of("sdxl_newreality")] == [
        "of the model",
        "of the prompt",
        None,
    ]
    assert [r.negative_prompt for r in loaded.generations_of("wan_t2v_fast")] == ["of the set", "of the prompt", None]
    assert "negative_prompt" not in loaded.generations[-1].body


def test_a_chat_model_gets_the_prompt_as_a_message_and_no_seed(project: Project) -> None:
    loaded = project.load("models: [llama_v3p1_8b_instruct]\nsamples: 2\nseed: 7\nprompts: [a haiku]\n")
    assert [(r.body, r.seed, r.sample) for r in loaded.generations] == [
        ({"messages": [{"role": "user", "content": "a haiku"}]}, None, 0),
        ({"messages": [{"role": "user", "content": "a haiku"}]}, None, 1),
    ]
    assert loaded.generations[0].generation_id != loaded.generations[1].generation_id


def test_parameters_of_a_model_without_a_published_schema_pass_as_they_are(project: Project) -> None:
    (request,) = project.load(
        "models: {wan_t2v_fast: {frames: 81, lora: {weights: [0.5, 1]}}}\nseed: 1\nprompts: [a boat]\n"
    ).generations
    assert request.body == {"prompt": "a boat", "frames": 81, "lora": {"weights": [0.5, 1]}, "seed": 1}


def test_a_list_of_seeds_makes_one_generation_each(project: Project) -> None:
    loaded = project.load("seed: [3, 9, 3]\nprompts: [a fox]\n")
    assert [(r.seed, r.body["seed"], r.sample) for r in loaded.generations] == [(3, 3, 0), (9, 9, 0)]


def test_the_random_seed_stays_random_for_every_sample(project: Project) -> None:
    loaded = project.load("seed: -1\nsamples: 3\nprompts: [a fox]\n")
    assert [(r.seed, r.sample) for r in loaded.generations] == [(-1, 0), (-1, 1), (-1, 2)]


def test_an_omitted_seed_does_not_depend_on_set_position_path_model_or_form(project: Project) -> None:
    first = project.load("models: [sdxl_newreality, fast_flux_schnell]\nprompts: [a fox, an owl]\n", "one.yaml")
    other = project.load("a cat\nan owl\n", "two.txt")
    owl = first.generations_of("fast_flux_schnell")[1]
    assert owl.generation_id == other.generations[1].generation_id
    assert owl.seed == other.generations[1].seed == first.generations_of("sdxl_newreality")[1].seed


def test_more_samples_keep_the_generations_there_were(project: Project) -> None:
    two = project.load("samples: 2\nprompts: [a fox]\n").generations
    three = project.load("samples: 3\nprompts: [a fox]\n").generations
    assert [r.generation_id for r in three[:2]] == [r.generation_id for r in two]
    assert len({r.seed for r in three}) == 3


def test_changing_one_prompt_changes_one_generation(project: Project) -> None:
    before = project.load("prompts: [a fox, an owl, a cat]\n").generations
    after = project.load("prompts: [a fox, an old owl, a cat]\n").generations
    assert len({r.generation_id for r in after} - {r.generation_id for r in before}) == 1


def test_equal_requests_are_merged_into_the_first(project: Project) -> None:
    loaded = project.load("prompts: [a fox, an owl, a fox, '  a fox ', a cat]\n")
    assert [(r.prompt, r.position) for r in loaded.generations] == [("a fox", 0), ("an owl", 1), ("a cat", 2)]


def test_all_combinations_in_the_order_of_the_file_the_last_variable_fastest(project: Project) -> None:
    loaded = project.load("variables: {light: [dawn, dusk], animal: [fox, owl]}\nprompts: ['{animal} at {light}']\n")
    assert [r.prompt for r in loaded.generations] == ["fox at dawn", "owl at dawn", "fox at dusk", "owl at dusk"]
    assert loaded.generations[1].variables == {"light": "dawn", "animal": "owl"}


def test_only_variables_that_a_prompt_uses_multiply_it(project: Project) -> None:
    loaded = project.load(
        "variables: {animal: [fox, owl], light: [dawn, noon, dusk]}\n"
        "prompts: ['{animal} in snow', 'a hill at {light}', a lake]\n"
    )
    assert len(loaded.generations) == 2 + 3 + 1
    assert loaded.generations[-1].variables == {}


def test_variables_of_the_negative_prompt_multiply_only_models_that_take_it(project: Project) -> None:
    loaded = project.load(
        "variables: {flaw: [blur, noise]}\nprompts: [a fox]\n"
        "models: {sdxl_newreality: {negative_prompt: 'no {flaw}'}, fast_flux_schnell: {}}\n"
    )
    assert [r.negative_prompt for r in loaded.generations_of("sdxl_newreality")] == ["no blur", "no noise"]
    assert len(loaded.generations_of("fast_flux_schnell")) == 1


def test_a_prompts_own_variables_replace_the_sets(project: Project) -> None:
    content = (
        "variables: {animal: [fox, owl]}\nprompts:\n  - a {animal}\n"
        "  - {prompt: 'an old {animal}', variables: {animal: [cat]}}\n"
    )
    assert prompts_of(project, content) == ["a fox", "a owl", "an old cat"]


def test_variable_values_are_the_text_as_written(project: Project) -> None:
    content = "variables: {v: [1.50, yes, 2026-01-01, 007, 16:9, true, '']}\nprompts: ['v {v}.']\n"
    assert prompts_of(project, content) == ["v 1.50.", "v yes.", "v 2026-01-01.", "v 007.", "v 16:9.", "v true.", "v ."]
    jsonl = '{"prompt": "v {v}.", "variables": {"v": [1.5, true, 7, "x"]}}'
    assert prompts_of(project, jsonl, "set.jsonl") == ["v 1.5.", "v true.", "v 7.", "v x."]


def test_values_that_yaml_1_1_would_misread_stay_text(project: Project) -> None:
    (request,) = project.load("defaults: {aspect_ratio: 16:9}\nprompts: [no]\n").generations
    assert (request.body["aspect_ratio"], request.prompt) == ("16:9", "no")


def test_doubled_braces_are_literal(project: Project) -> None:
    assert prompts_of(project, "prompts: ['a {{smiling}} fox']\n") == ["a {smiling} fox"]


def test_white_space_around_a_prompt_is_not_part_of_it(project: Project) -> None:
    assert prompts_of(project, "prompts:\n  - >\n    a fox\n    in snow\n") == ["a fox in snow"]


def test_anchors_and_aliases_work(project: Project) -> None:
    loaded = project.load("prompts:\n  - {prompt: one, params: &p {steps: 3}}\n  - {prompt: two, params: *p}\n")
    assert [r.body["steps"] for r in loaded.generations] == [3, 3]


def test_sampling_draws_that_many_distinct_combinations_for_each_prompt(project: Project) -> None:
    content = (
        "variables: {a: [1, 2, 3, 4], b: [1, 2, 3, 4]}\nsampling: {count: 5, seed: 3}\n"
        "prompts: ['x {a} {b}', 'y {a} {b}', 'z {a}']\n"
    )
    drawn = prompts_of(project, content)
    assert [sum(prompt.startswith(letter) for prompt in drawn) for letter in "xyz"] == [5, 5, 4]
    assert drawn == prompts_of(project, content, "other.yaml")
    assert drawn != prompts_of(project, content.replace("seed: 3", "seed: 4"))
    assert {prompt[2:] for prompt in drawn[:5]} != {prompt[2:] for prompt in drawn[5:10]}


VARIABLES = st.dictionaries(
    st.sampled_from("abcd"), st.lists(st.text("xyz", max_size=3), min_size=1, max_size=5, unique=True), max_size=4
)


@given(VARIABLES, st.integers(1, 40), st.integers(0, 9))
def test_drawn_combinations_are_distinct_ordered_and_grow_by_addition(
    variables: dict[str, list[str]], count: int, seed: int
) -> None:
    everything = list(combinations(variables, None, "t"))
    drawn = list(combinations(variables, Sampling(count=count, seed=seed), "t"))
    more = list(combinations(variables, Sampling(count=count + 1, seed=seed), "t"))
    assert len(everything) == prod(len(values) for values in variables.values())
    assert len(drawn) == min(count, len(everything))
    assert drawn == [combination for combination in everything if combination in set(drawn)]
    assert set(drawn) <= set(more)


def test_sampling_works_where_all_combinations_would_never_fit(project: Project) -> None:
    names = [f"v{number}" for number in range(60)]
    values = ", ".join(f"{name}: [{', '.join('abcdefgh')}]" for name in names)
    prompt = " ".join(f"{{{name}}}" for name in names)
    loaded = project.load(f"variables: {{{values}}}\nsampling: {{count: 7}}\nprompts: ['{prompt}']\n")
    assert len(loaded.generations) == 7


@given(
    sizes=st.lists(st.integers(1, 4), max_size=3),
    prompts=st.integers(1, 3),
    samples=st.integers(1, 3),
    models=st.lists(st.sampled_from(["fast_flux_schnell", "sdxl_newreality"]), min_size=1, max_size=2, unique=True),
)
def test_the_count_is_prompts_x_models_x_combinations_x_samples(
    project: Project, sizes: list[int], prompts: int, samples: int, models: list[str]
) -> None:
    names = [f"v{number}" for number in range(len(sizes))]
    variables = {name: [str(value) for value in range(size)] for name, size in zip(names, sizes, strict=True)}
    text = " ".join(f"{{{name}}}" for name in names)
    content = {"models": models, "samples": samples, "variables": variables}
    lines = [f"# {field}: {value}\n" for field, value in content.items()]
    lines += [f"prompt {number} {text}\n" for number in range(prompts)]
    loaded = project.load("".join(lines), "set.txt")
    assert len(loaded.generations) == prompts * samples * len(models) * prod(sizes)
    assert [request.position for request in loaded.generations] == list(range(len(loaded.generations)))


def test_the_name_of_the_set_and_registry_defaults_do_not_matter_but_given_values_do(project: Project) -> None:
    plain = project.load("prompts: [a fox]\nseed: 1\n", "one.yaml").generations[0]
    same = project.load("description: x\nbudget_usd: 1\nseed: 1\nprompts: [a fox]\n", "two.yaml").generations[0]
    given_default = project.load("prompts: [a fox]\nseed: 1\ndefaults: {steps: 4}\n").generations[0]
    assert same.generation_id == plain.generation_id
    assert given_default.generation_id != plain.generation_id


def test_the_digest_is_that_of_the_content_not_of_the_name(project: Project) -> None:
    one = project.load("a fox\n", "one.txt").digest
    assert project.load("a fox\n", "two.txt").digest == one
    assert project.load("a fox \n", "two.txt").digest != one
    assert len(one) == 64


def test_a_hundred_thousand_generations_fit(project: Project) -> None:
    values = ", ".join(str(number) for number in range(100))
    path = project.write(
        "set.yaml", f"variables: {{a: [{values}], b: [{values}]}}\nsamples: 10\nprompts: ['{{a}} {{b}}']\n"
    )
    assert len(load_prompt_set(path, project_dir=project.folder).generations) == 100_000


@pytest.mark.parametrize("suffix", ["yaml", "yml", "YAML"])
def test_both_suffixes_of_yaml_in_any_case_are_read(project: Project, suffix: str) -> None:
    assert project.load("prompts: [a fox]\n", f"set.{suffix}").generations


def test_utf_8_with_a_byte_order_mark_and_windows_line_ends_is_accepted(project: Project) -> None:
    assert prompts_of(project, b"\xef\xbb\xbfprompts:\r\n  - un \xc3\xa9t\xc3\xa9\r\n") == ["un été"]
