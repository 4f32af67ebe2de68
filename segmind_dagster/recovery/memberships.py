"""Which prompt sets asked for what is restored. Pure.

The next run of a set enters what it asks for once more, in its own order; what is here keeps the rest in view: what
a set asked for earlier, and the sets whose file is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from segmind_dagster.prompts import PromptSet
    from segmind_dagster.recovery.files import OnDisk
    from segmind_dagster.recovery.joining import Restored
    from segmind_dagster.source.restore import Membership


def memberships(
    rows: Sequence[Restored],
    *,
    sets: Sequence[PromptSet],
    disk: Mapping[str, OnDisk],
    remembered: Sequence[Membership],
) -> list[dict[str, Any]]:
    """Rows of `set_generations` for what is restored.

    Args:
        rows: what is restored.
        sets: the prompt files as they are now.
        disk: what the outputs folder holds, by generation id.
        remembered: what the warehouse knows.
    """
    resources = {row.generation["generation_id"]: row.generation["resource"] for row in rows}
    # where it is not recorded: what paid for it knows when it was sent
    sent_at = {row.generation["generation_id"]: row.generation["intent_at"] for row in rows}
    found: dict[tuple[str, str], dict[str, Any]] = {}

    asked_at = {(row.prompt_set, row.generation_id): row.asked_at for row in remembered}

    def enter(prompt_set: str, generation_id: str, *, is_current: bool, position: int) -> None:
        if generation_id in resources:
            found.setdefault(
                (prompt_set, generation_id),
                {
                    "prompt_set": prompt_set,
                    "generation_id": generation_id,
                    "resource": resources[generation_id],
                    "position": position,
                    "is_current": is_current,
                    "asked_at": asked_at.get((prompt_set, generation_id)) or sent_at[generation_id],
                },
            )

    for prompt_set in sets:
        for request in prompt_set.generations:
            enter(prompt_set.key, request.generation_id, is_current=True, position=request.position)
    # a file that is there has had its say on what is current
    keys = {prompt_set.key for prompt_set in sets}
    for position, row in enumerate(remembered):
        is_current = row.is_current and row.prompt_set not in keys
        enter(row.prompt_set, row.generation_id, is_current=is_current, position=position)
    for position, (generation_id, each) in enumerate(disk.items()):
        if each.sidecar is not None and each.sidecar.prompt_set is not None:
            key = each.sidecar.prompt_set
            enter(key, generation_id, is_current=key not in keys, position=position)
    return list(found.values())
