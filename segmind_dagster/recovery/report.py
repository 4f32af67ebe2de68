"""What came of a rebuilding, for people: what is there again, and what is not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from segmind_dagster.lifecycle.parsing import FREE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from decimal import Decimal

    from segmind_dagster.lifecycle.generation import Generation
    from segmind_dagster.recovery.files import OnDisk, Verdict
    from segmind_dagster.recovery.joining import Restored
    from segmind_dagster.recovery.requests import Requests

_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """What came of it.

    Args:
        restored: generations entered, by state.
        present: generations that the ledger held already; left as they are.
        spent_usd: charged for what was entered, as reported.
        estimated_usd: the same where none was reported, and what is reserved for what is to be fetched.
        unpriced: stored outputs of unknown cost without an estimate.
        outdated: generations that the ledger, being older, has under way although their outputs are here.
        verdicts: outputs and sidecars of the folder by what they count as.
        foreign_rows: rows of the warehouse that are of another origin.
        not_restored: names of outputs that could not be restored.
        doubtful: generations that may have been paid for, which the history no longer tells for certain.
        unclaimed: requests that Segmind charged, of which nothing here knows.
        unclaimed_usd: what they cost.
    """

    restored: Counter[str] = field(default_factory=Counter)
    present: int = 0
    spent_usd: Decimal = FREE
    estimated_usd: Decimal = FREE
    unpriced: int = 0
    outdated: tuple[str, ...] = ()
    verdicts: Counter[Verdict] = field(default_factory=Counter)
    foreign_rows: int = 0
    not_restored: tuple[str, ...] = ()
    doubtful: tuple[str, ...] = ()
    unclaimed: int = 0
    unclaimed_usd: Decimal = FREE

    def lines(self) -> list[str]:
        """The same for people: first what is there again, then what is not."""
        counts = self.restored
        restored = (
            f"Restored {counts.total()} generations: {counts['succeeded']} stored, {counts['submitted']} paid for and "
            f"still to be fetched, {counts['unknown']} of unknown fate, {counts['failed']} failed, "
            f"{counts['planned']} tried and not bought. {self.present} were in the ledger already, as they should be."
        )
        money = f"Charged for them: ${self.spent_usd:.6f} as reported, ${self.estimated_usd:.6f} estimated or reserved."
        to_fetch = "Run `segmind-dagster collect` to fetch what is paid for; it buys nothing."
        remarks = [f"{count} {text}." for count, text in self._remarks() if count]
        lost = f"Not restored, for example: {', '.join(self.not_restored[:_SHOWN])}."
        return [
            restored,
            money,
            *([to_fetch] if counts["submitted"] + counts["unknown"] else []),
            *remarks,
            *([lost] if self.not_restored else []),
        ]

    def _remarks(self) -> list[tuple[int, str]]:
        doubtful = (
            "generations may have been paid for, which the history does not tell for certain; they are not bought "
            "until `segmind-dagster resolve` has decided them: " + ", ".join(self.doubtful[:_SHOWN])
        )
        unclaimed = (
            f"requests were charged (${self.unclaimed_usd:.6f}) that no output, prompt file or warehouse row accounts "
            "for"
        )
        outdated = (
            "generations are stored, but the ledger, being older, has them under way; `segmind-dagster collect` finds "
            f"that out: {', '.join(self.outdated[:_SHOWN])}"
        )
        return [
            (len(self.outdated), outdated),
            (self.unpriced, "stored outputs have a cost that nobody knows; it is in no total"),
            (self.verdicts["undigested"], "outputs had lost the record of their digest; they are whole and were kept"),
            (self.verdicts["changed"], "outputs are not the bytes that were stored; they count as not fetched yet"),
            (self.verdicts["missing"], "outputs are gone, with only their sidecars left"),
            (self.verdicts["nameless"], "outputs could not be restored from themselves: nothing says what they are"),
            (self.verdicts["foreign"], "outputs are of another API origin or account; they were left out"),
            (self.foreign_rows, "rows of the warehouse are of another API origin or account; they were left out"),
            (len(self.doubtful), doubtful),
            (self.unclaimed, unclaimed),
        ]


def report(
    entered: Sequence[Restored],
    *,
    present: Mapping[str, Generation],
    judged: Sequence[OnDisk],
    foreign_rows: int,
    requests: Requests,
    owned: Collection[str],
) -> Rebuilt:
    """Sum up.

    Args:
        entered: what was entered.
        present: what the ledger held before, by generation id.
        judged: what the folder holds.
        foreign_rows: rows of the warehouse that were left out.
        requests: what the history says.
        owned: ids of its requests that the ledger now accounts for.
    """
    attempts = [attempt for row in entered for attempt in row.attempts]
    ids = {row.generation["generation_id"] for row in entered}
    there = {*present, *(row.generation["generation_id"] for row in entered)}
    lost = [
        f"{each.resource}/{each.generation_id} ({each.verdict})"
        for each in judged
        if not each.is_owned and each.generation_id not in there
    ]
    outdated = [
        f"{each.generation_id} ({held.state})"
        for each in judged
        if each.is_owned
        and each.generation_id not in ids
        and (held := present.get(each.generation_id)) is not None
        and held.state != "succeeded"
    ]
    unclaimed = [row.cost_usd for row in requests.rows.values() if row.cost_usd and row.request_id not in owned]
    spent_usd = estimated_usd = FREE
    for attempt in attempts:
        if attempt["cost_usd"] is not None and attempt["cost_source"] != "estimated":
            spent_usd += attempt["cost_usd"]
        else:
            estimated_usd += attempt["reserved_usd"] if attempt["cost_usd"] is None else attempt["cost_usd"]
    return Rebuilt(
        restored=Counter(row.generation["state"] for row in entered),
        present=len(present.keys() - ids),
        spent_usd=spent_usd,
        estimated_usd=estimated_usd,
        unpriced=sum(attempt["state"] == "succeeded" and attempt["cost_usd"] is None for attempt in attempts),
        outdated=tuple(outdated),
        verdicts=Counter(each.verdict for each in judged),
        foreign_rows=foreign_rows,
        not_restored=tuple(lost),
        doubtful=tuple(requests.doubtful),
        unclaimed=len(unclaimed),
        unclaimed_usd=sum(unclaimed, FREE),
    )
