"""The prompts folder: which file is which prompt set, by name alone.

Reads no file content, so that a sensor may ask often. What is inside a file is the business of `loading`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from segmind_dagster.errors import Problem, PromptSetError
from segmind_dagster.prompts.document import did_you_mean, listed
from segmind_dagster.prompts.formats import FORMS
from segmind_dagster.prompts.keys import key_complaint
from segmind_dagster.prompts.loading import load_prompt_set

if TYPE_CHECKING:
    from collections.abc import Mapping

    from segmind_dagster.prompts.model import PromptSet


@dataclass(frozen=True, slots=True)
class PromptFolder:
    """What a prompts folder holds.

    Args:
        files: the file of each key, for keys that are well-formed and not claimed by two files.
        problems: what is wrong with the other files.
    """

    files: Mapping[str, Path]
    problems: tuple[Problem, ...]


def scan_prompts(prompts_dir: Path) -> PromptFolder:
    """The prompt files directly in a folder; hidden files, `README` files and other suffixes are ignored.

    Raises:
        PromptSetError: the folder cannot be listed.
    """
    try:
        entries = sorted(prompts_dir.iterdir())
    except OSError as error:
        reason = {FileNotFoundError: "does not exist", NotADirectoryError: "is not a folder"}.get(
            type(error), f"cannot be read ({error.strerror})"
        )
        message = f"the prompts folder {prompts_dir} {reason}; create it, or set SEGMIND_PROMPTS_DIR to another folder"
        raise PromptSetError([Problem(file=prompts_dir.name or str(prompts_dir), message=message)]) from error
    claims: dict[str, list[Path]] = defaultdict(list)
    for path in entries:
        if _is_prompt_file(path):
            claims[path.stem].append(path)
    problems: list[Problem] = []
    files: dict[str, Path] = {}
    for stem, paths in claims.items():
        complaint = key_complaint(stem)
        if complaint:
            problems += [Problem(file=path.name, message=complaint) for path in paths]
        elif len(paths) > 1:
            problems += [
                Problem(file=path.name, message=_shared_key(stem, [other for other in paths if other != path]))
                for path in paths
            ]
        else:
            files[stem] = paths[0]
    return PromptFolder(MappingProxyType(files), tuple(problems))


def find_prompt_set(key: str, *, prompts_dir: Path, project_dir: Path) -> PromptSet:
    """The prompt set of a key, the stem of its file; local images must lie in the project.

    Raises:
        PromptSetError: there is no such set, two files claim the key, or the file cannot be used.
    """
    folder = scan_prompts(prompts_dir)
    if key in folder.files:
        return load_prompt_set(folder.files[key], project_dir=project_dir)
    own = [problem for problem in folder.problems if Path(problem.file).stem == key]
    if not own:
        exist = f"The sets are: {listed(folder.files)}" if folder.files else "The folder holds no prompt sets"
        message = f"there is no prompt set {key!r} in {prompts_dir}.{did_you_mean(key, folder.files)} {exist}"
        own = [Problem(file=prompts_dir.name or str(prompts_dir), message=message)]
    raise PromptSetError(own)


def _is_prompt_file(path: Path) -> bool:
    name = path.name
    is_ignored = name.startswith(".") or name.endswith("~") or path.stem.lower() == "readme"
    return path.suffix.lower() in FORMS and not is_ignored and not path.is_dir()


def _shared_key(stem: str, others: list[Path]) -> str:
    return (
        f"the key {stem!r} is also that of {', '.join(other.name for other in others)}; one prompt set is one file: "
        "rename one of them"
    )
