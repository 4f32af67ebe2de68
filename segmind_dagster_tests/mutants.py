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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

ROOT = Path(__file__).resolve().parents[1]
WOKEN = "runner/test_processes_stopped.py::test_a_run_resumed_after_its_lease_sends_nothing_for_lost_claims"
LEDGER, RUNNER = "segmind_dagster/ledger", "segmind_dagster/runner"
BUDGET, MATCHING = "segmind_dagster/lifecycle/budget.py", "segmind_dagster/lifecycle/matching.py"


@dataclass(frozen=True)
class Mutant:
    """One guard that is taken out.

    Args:
        guard: what is no longer so.
        file: where.
        old: the exact text, once in the file.
        new: what stands there instead.
        tests: test files, or tests, below `segmind_dagster_tests`; one has to fail.
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
        "a request id belongs to one attempt: the look before it",
        f"{LEDGER}/moves.py", "if owner != mine:", "if False:", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "a request id belongs to one attempt: the index",
        f"{LEDGER}/migrations/versions/0001_the_first_tables.py",
        "'attempts_by_request', 'attempts', ['request_id'], unique=True",
        "'attempts_by_request', 'attempts', ['request_id'], unique=False", ("ledger/test_transitions.py",),
    ),
    Mutant(
        "earlier work comes first",
        f"{RUNNER}/engine.py",
        "in sorted(generations, key=lambda generation: order.get(generation.step, 2)):", "in generations:",
        ("runner/test_runner_order.py",),
    ),
    Mutant(
        "outputs wait for a burst of submissions",
        f"{RUNNER}/concurrency.py", "if self._submitting <= _BURST:", "if True:", ("runner/test_runner_order.py",),
    ),
    Mutant(
        "the lease is looked at right before a POST",
        f"{RUNNER}/buying.py", "return self.lease.holds(term) and not self.admission.is_interrupted",
        "return not self.admission.is_interrupted",
        (f"{WOKEN}[after the claim, before the lease is checked-fast_flux_schnell]",),
    ),
    Mutant(
        "what is stored is not bought",
        f"{RUNNER}/generate.py",
        "_refuse_to_buy_what_is_stored(ledger, outputs, settings, generations.values())", "pass",
        ("recovery/test_rebuild_damage.py",),
    ),
    Mutant(
        "a POST without a known outcome is not sent again at once",
        f"{RUNNER}/buying.py",
        'if error.kind == "unknown_outcome":\n            await', "if False:\n            await",
        ("runner/test_runner_unknowns.py",),
    ),
    Mutant(
        "a price that nobody has reported may be four times the believed one",
        BUDGET, "CAUTION: Final = 4", "CAUTION: Final = 1", ("lifecycle/test_budget.py",),
    ),
    Mutant(
        "without any report it may be ten times as much",
        BUDGET, "GREAT_CAUTION: Final = 10", "GREAT_CAUTION: Final = 4", ("lifecycle/test_budget.py",),
    ),
    Mutant(
        "the first one of a model goes as planned",
        BUDGET, "is_first = not self._awaited[slug]", "is_first = False", ("lifecycle/test_budget.py",),
    ),
    Mutant(
        "what is granted counts for the next claim of its transaction",
        f"{LEDGER}/moves.py", "allowed.reserve(spend, reserve_usd)", "pass", ("ledger/test_commits.py",),
    ),
    Mutant(
        "a reported cost is known to every run at once",
        f"{LEDGER}/moves.py", "    report_prices(connection, prices)", "    pass", ("runner/test_runner_limits.py",),
    ),
    Mutant(
        "what was charged without a report counts with caution",
        f"{LEDGER}/schema.py", """IS_UNREPORTED = ATTEMPTS.c.cost_usd.is_(None) | (""",
        """IS_UNREPORTED = ATTEMPTS.c.cost_usd.is_(None) & (""", ("runner/test_runner_budgets.py",),
    ),
    Mutant(
        "an answer that is older than what ended meanwhile is asked for again",
        f"{RUNNER}/headroom.py", "has_changed = changes != self._changes", "has_changed = False",
        ("runner/test_headroom.py",),
    ),
    Mutant(
        "a cost that the history tells is told once",
        f"{LEDGER}/costs.py", 'columns.cost_source == "estimated",', "", ("runner/test_runner_budgets.py",),
    ),
    Mutant(
        "a budget that is lowered in the file holds",
        f"{RUNNER}/buying.py", "caps=await self.budgets.caps(generation),", "caps=generation.caps,",
        ("runner/test_runner_budgets.py",),
    ),
    Mutant(
        "a request that the history showed is no control for what was sent after it",
        f"{LEDGER}/reads.py",
        "is_answered=not _is_adopted(row.http_status),", "is_answered=True,", ("runner/test_lookup.py",),
    ),
    Mutant(
        "a control was accepted after the submission was sent",
        MATCHING, "            and each.accepted_at >= lost.sent_at\n", "",
        ("runner/test_lookup.py",),
    ),
    Mutant(
        "a row that a later attempt may be is left to the run that has sent it",
        f"{LEDGER}/writes.py", ' or row.generation_state in {"submitting", "unknown"}', "", ("runner/test_lookup.py",),
    ),
    Mutant(
        "a generation that was tried again in vain takes the request of an earlier attempt",
        f"{LEDGER}/writes.py", 'is_wanted = row.generation_state == "planned" or',
        "is_wanted = row.attempts == attempt and",
        ("runner/test_lookup.py",),
    ),
    Mutant(
        "an error answer is judged after the settling time only",
        MATCHING, "if settling_times < 1 or not", "if not", ("runner/test_lookup.py",),
    ),
    Mutant(
        "a 429 is looked up as any error after which the job may have been made",
        f"{RUNNER}/buying.py", "if POLICIES[kind].is_permanent:", 'if kind != "server_error":',
        ("runner/test_runner_faults.py",),
    ),
    Mutant(
        "where others buy, an equal row is taken once the history has come that far",
        f"{RUNNER}/lookup.py", "if not has_others or has_settled", "if True or has_settled", ("runner/test_lookup.py",),
    ),
)  # fmt: skip


def passes(tests: Collection[str], mutant: Mutant | None = None) -> bool:
    """Whether tests pass in a copy of the tree, with the guard of a mutant taken out or as it is."""
    with tempfile.TemporaryDirectory(prefix="segmind-mutant-") as folder:
        tree = Path(folder)
        for name in ("segmind_dagster", "segmind_dagster_tests", "prompts", "pyproject.toml"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, tree / name)
        if mutant is not None:
            path = tree / mutant.file
            path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=tree / "segmind_dagster_tests",
            env={**os.environ, "PYTHONPATH": str(tree)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        sys.exit(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def main(words: list[str]) -> int:
    """Try the mutants whose guard or file holds one of the words, or all of them."""
    tried = [each for each in MUTANTS if not words or any(word in f"{each.guard} {each.file}" for word in words)]
    for mutant in tried:
        found = (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.old)
        if found != 1:
            sys.exit(f"{mutant.file} holds {found} times, not once: {mutant.old}")
    # a test that fails anyway would seem to notice
    if not passes({test for mutant in tried for test in mutant.tests}):
        sys.exit("A test that should notice a mutant fails without one: mend that first.")
    survivors = 0
    for mutant in tried:
        survives = passes(mutant.tests, mutant)
        survivors += survives
        print(f"{'SURVIVED' if survives else 'killed  '} {mutant.guard} ({mutant.file})", flush=True)  # noqa: T201
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
