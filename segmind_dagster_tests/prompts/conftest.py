"""A project folder with prompt files in it, as a person would have one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from segmind_dagster.errors import PromptSetError
from segmind_dagster.prompts import load_prompt_set

if TYPE_CHECKING:
    from pathlib import Path

    from segmind_dagster.errors import Problem
    from segmind_dagster.prompts import PromptSet

PNG = b"\x89PNG\r\n\x1a\n" + b"the rest of a picture"


class Project:
    """A project folder whose prompts folder a test fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.prompts = folder / "prompts"
        self.prompts.mkdir()

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.prompts / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, content: str | bytes, name: str = "set.yaml") -> PromptSet:
        return load_prompt_set(self.write(name, content), project_dir=self.folder)

    def problems(self, content: str | bytes, name: str = "set.yaml") -> tuple[Problem, ...]:
        with pytest.raises(PromptSetError) as raised:
            self.load(content, name)
        return raised.value.problems

    def problem(self, content: str | bytes, name: str = "set.yaml") -> Problem:
        problems = self.problems(content, name)
        assert len(problems) == 1, "\n".join(map(str, problems))
        return problems[0]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture
def png() -> bytes:
    return PNG
