from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from segmind_dagster.errors import PromptSetError
from segmind_dagster.prompts import find_prompt_set, scan_prompts

if TYPE_CHECKING:
    from conftest import Project


def test_every_form_directly_in_the_folder_is_a_prompt_set(project: Project) -> None:
    for name in ("one.yaml", "two.yml", "three-3.csv", "4_four.jsonl", "five.txt"):
        project.write(name, "anything")
    assert sorted(scan_prompts(project.prompts).files) == ["4_four", "five", "one", "three-3", "two"]


def test_other_files_are_ignored(project: Project) -> None:
    for name in (".hidden.yaml", "a.yaml~", "notes.md", "README.txt", "picture.png", "below/c.yaml", "noextension"):
        project.write(name, "anything")
    (project.prompts / "folder.yaml").mkdir()
    folder = scan_prompts(project.prompts)
    assert not folder.files
    assert not folder.problems


def test_no_content_is_read(project: Project) -> None:
    project.write("broken.yaml", b"\xff\xfe\x00")
    assert list(scan_prompts(project.prompts).files) == ["broken"]


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [("Still Life.yaml", "still_life"), ("a.b.csv", "a_b"), ("_x.txt", "x"), ("été.txt", "t"), ("a,b.yaml", "a_b")],
)
def test_a_bad_stem_is_a_problem_with_a_better_name(project: Project, name: str, suggestion: str) -> None:
    project.write(name, "a fox")
    folder = scan_prompts(project.prompts)
    assert not folder.files
    (problem,) = folder.problems
    assert problem.file == name
    assert f"rename the file, for example to '{suggestion}'" in problem.message
    (same,) = project.problems("a fox", name)
    assert same == problem


def test_a_stem_of_more_than_a_hundred_characters_is_a_problem(project: Project) -> None:
    project.write("a" * 100 + ".txt", "a fox")
    project.write("a" * 101 + ".txt", "a fox")
    folder = scan_prompts(project.prompts)
    assert list(folder.files) == ["a" * 100]
    assert "longer than 100 characters" in folder.problems[0].message


def test_two_files_with_one_stem_are_a_problem_on_both(project: Project) -> None:
    for name in ("cats.yaml", "cats.csv", "dogs.txt"):
        project.write(name, "a fox")
    folder = scan_prompts(project.prompts)
    assert list(folder.files) == ["dogs"]
    assert [
        (problem.file, other in problem.message)
        for problem, other in zip(folder.problems, ["cats.yaml", "cats.csv"], strict=True)
    ] == [("cats.csv", True), ("cats.yaml", True)]
    with pytest.raises(PromptSetError) as raised:
        find_prompt_set("cats", prompts_dir=project.prompts, project_dir=project.folder)
    assert raised.value.problems == folder.problems


def test_a_missing_folder_says_which_setting_names_it() -> None:
    with pytest.raises(PromptSetError, match=r"/nowhere/prompts does not exist.*SEGMIND_PROMPTS_DIR"):
        scan_prompts(Path("/nowhere/prompts"))


def test_a_file_in_place_of_the_folder_is_a_problem(project: Project) -> None:
    with pytest.raises(PromptSetError, match="is not a folder"):
        scan_prompts(project.write("a.txt", "a fox"))


def test_a_set_is_found_by_its_key(project: Project) -> None:
    project.write("cats.txt", "a cat")
    found = find_prompt_set("cats", prompts_dir=project.prompts, project_dir=project.folder)
    assert (found.key, found.generations[0].prompt) == ("cats", "a cat")


def test_an_unknown_key_lists_the_keys_that_exist(project: Project) -> None:
    project.write("cats.txt", "a cat")
    project.write("dogs.txt", "a dog")
    with pytest.raises(
        PromptSetError, match=r"no prompt set 'cat' in .*Did you mean 'cats'\? The sets are: cats, dogs"
    ):
        find_prompt_set("cat", prompts_dir=project.prompts, project_dir=project.folder)


def test_an_unknown_key_in_an_empty_folder_says_so(project: Project) -> None:
    with pytest.raises(PromptSetError, match="The folder holds no prompt sets"):
        find_prompt_set("cat", prompts_dir=project.prompts, project_dir=project.folder)
