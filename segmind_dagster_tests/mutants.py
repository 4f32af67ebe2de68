"""Takes guards of the money path out, one at a time, and sees whether a test notices: `make mutants`.

Each mutant is one exact change of one file and the tests that should fail with it. They run in a copy of the tree,
so that nothing here is ever changed. A mutant whose text is no longer in its file is an error: the list is kept up
with the code. Exit code 1 when a mutant survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEDGER, RUNNER = "segmind_dagster/ledger", "segmind_dagster/runner"


@dataclass(frozen=True)
class Mutant:
    """One guard that is taken out.

    Args:
        guard: what is no longer so.
        file: where.
        old: the exact text, once in the file.
        new: what stands there instead.
        tests: files below `segmind_dagster_tests` of which one test has to fail.
    """

    guard: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        "a change has to find each of its rows",
        f"{LEDGER}/claims.py", "if changed.rowcount != len(rows):", "if False:", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "a claim is for one owner and one attempt",
        f"{LEDGER}/claims.py", "elif row.owner != each.owner or row.attempts != each.attempt:", "elif False:",
        ("ledger/test_transitions.py",),
    ),
    Mutant(
        "a move has to be in the table",
        f"{LEDGER}/claims.py", "elif target not in TRANSITIONS[row.state]:", "elif False:",
        ("ledger/test_transitions.py",),
    ),
    Mutant(
        "only what is planned is claimed: the statement",
        f"{LEDGER}/statements.py",
        '.where(_OF_GENERATION, or_(*(GENERATIONS.c.state == origin for origin in origins("submitting"))))',
        ".where(_OF_GENERATION)", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "only what is planned is claimed: the look before it",
        f"{LEDGER}/moves.py", 'if row.state == "planned"}', "}", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "a request id belongs to one attempt",
        f"{LEDGER}/migrations/versions/0001_the_first_tables.py",
        "'attempts_by_request', 'attempts', ['request_id'], unique=True",
        "'attempts_by_request', 'attempts', ['request_id'], unique=False", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "earlier work comes first",
        f"{RUNNER}/engine.py", "in sorted(works, key=lambda work: order.get(work.action, 2)):", "in works:",
        ("runner/test_runner_order.py",),
    ),
    Mutant(
        "outputs wait for a burst of submissions",
        f"{RUNNER}/places.py", "if self._submitting <= _RUSH:", "if True:", ("runner/test_runner_order.py",),
    ),
    Mutant(
        "the lease is looked at right before a POST",
        f"{RUNNER}/buying.py", "return self.lease.holds(term) and not self.brake.is_interrupted",
        "return not self.brake.is_interrupted", ("runner/test_runner_stops.py", "runner/test_processes_stopped.py"),
    ),
    Mutant(
        "what is stored is not bought",
        f"{RUNNER}/generate.py", "_refuse_to_buy_what_is_stored(ledger, outputs, settings, works.values())", "pass",
        ("recovery/test_rebuild_damage.py", "runner/test_runner_outputs.py"),
    ),
    Mutant(
        "a POST without a known outcome is not sent again at once",
        f"{RUNNER}/buying.py", 'if error.kind == "unknown_outcome":', "if False:", ("runner/test_runner_unknowns.py",),
    ),
)  # fmt: skip


def is_killed(mutant: Mutant) -> bool:
    """Whether a test fails with the guard taken out."""
    with tempfile.TemporaryDirectory(prefix="segmind-mutant-") as folder:
        tree = Path(folder)
        for name in ("segmind_dagster", "segmind_dagster_tests", "prompts", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        path = tree / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            sys.exit(f"{mutant.file} holds {text.count(mutant.old)} times, not once: {mutant.old}")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        tests = [f"segmind_dagster_tests/{name}" for name in mutant.tests]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=tree,
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        sys.exit(f"pytest ended with {done.returncode} for {mutant.guard}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 1


def main(words: list[str]) -> int:
    """Try the mutants whose guard or file holds one of the words, or all of them."""
    survivors = 0
    for mutant in MUTANTS:
        if words and not any(word in f"{mutant.guard} {mutant.file}" for word in words):
            continue
        killed = is_killed(mutant)
        survivors += not killed
        print(f"{'killed  ' if killed else 'SURVIVED'} {mutant.guard} ({mutant.file})", flush=True)  # noqa: T201
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
