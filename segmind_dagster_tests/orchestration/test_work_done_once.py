"""A run opens the ledger once, reads a prompt file once and asks for a snapshot once, whichever of its steps asks."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest
from lab.project import REALITY

from segmind_dagster import data_folder
from segmind_dagster.data_folder import RunContext
from segmind_dagster.errors import LedgerError, PromptSetError
from segmind_dagster.ledger import reads
from segmind_dagster.prompts import folder

if TYPE_CHECKING:
    from lab.dagster_project import DagsterLab


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often something was done."""
    found: Counter[str] = Counter()

    def count(module: Any, name: str) -> None:
        original = getattr(module, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            found[name] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, counted)

    count(data_folder, "open_ledger")
    count(folder, "load_prompt_set")
    count(reads, "snapshot")
    return found


@pytest.mark.parametrize("assets", [(f"segmind/{REALITY}",), ("prompt_set", f"segmind/{REALITY}")])
def test_one_run_opens_the_ledger_once_and_reads_its_prompt_file_once(
    lab: DagsterLab, done: Counter[str], assets: tuple[str, ...]
) -> None:
    lab.write("fruit", 2)
    run = lab.run(*assets, partition="fruit")
    assert run.is_success
    assert lab.charges == 2
    # each of the two is planned with what the ledger knows by then
    assert done == {"open_ledger": 1, "load_prompt_set": 1, "snapshot": len(assets)}


def test_the_next_run_opens_and_reads_anew(lab: DagsterLab, done: Counter[str]) -> None:
    lab.write("fruit", 1)
    lab.run(f"segmind/{REALITY}", partition="fruit")
    lab.write("fruit", 3)
    lab.run(f"segmind/{REALITY}", partition="fruit")
    assert lab.charges == 3
    assert done == {"open_ledger": 2, "load_prompt_set": 2, "snapshot": 2}


def test_an_invalid_file_is_read_once_and_fails_every_caller(lab: DagsterLab, done: Counter[str]) -> None:
    lab.write_text("fruit.yaml", "models: [nothing]")
    run = RunContext(lab.settings())
    for _ in range(3):
        with pytest.raises(PromptSetError):
            run.prompt_set("fruit")
    assert done["load_prompt_set"] == 1


def test_a_closed_run_has_closed_its_ledger(lab: DagsterLab) -> None:
    run = RunContext(lab.settings())
    ledger, _ = run.folder()
    run.close()
    with pytest.raises(LedgerError, match="closed"):
        ledger.write(lambda _: None)
