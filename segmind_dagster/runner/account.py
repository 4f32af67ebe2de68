"""Checks key and balance before any POST, free of charge: a wrong key or an empty account costs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from segmind_dagster.gateway.errors import GatewayError, UnreachableError
from segmind_dagster.lifecycle.failures import POLICIES

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from decimal import Decimal

    from segmind_dagster.lifecycle.failures import FailureKind
    from segmind_dagster.runner.ports import GatewayPort


async def why_not(
    gateway: GatewayPort,
    cheapest_usd: Decimal,
    *,
    remember: Callable[[Decimal], Awaitable[None]],
    warn: Callable[[str], None],
) -> tuple[FailureKind, str] | None:
    """Why nothing can be submitted, and what to do; None when something can.

    Args:
        gateway: the provider.
        cheapest_usd: what the cheapest generation of this run may cost.
        remember: called with the balance, which sensors read.
        warn: called when the balance is unknown, which holds up nothing.

    Raises:
        UnreachableError: the server cannot be reached; further requests would only take time.
    """
    try:
        balance = await gateway.credits_usd()
    except UnreachableError as error:
        raise UnreachableError(
            error.kind,
            f"{error} {POLICIES[error.kind].advice} Nothing was sent. What was submitted earlier is recorded: "
            "`segmind-dagster collect`, or the next run, fetches it once there is an answer.",
        ) from error
    except GatewayError as error:
        if error.kind == "unauthorized":
            return error.kind, f"{error} {POLICIES[error.kind].advice}"
        warn(f"The account's balance could not be read ({error}); nothing waited for it.")
        return None
    if balance is None:
        warn("The account's balance is not known: Segmind's answer holds none that can be read. Nothing waited for it.")
        return None
    await remember(balance)
    if balance < cheapest_usd:
        return (
            "no_credits",
            (
                f"The account holds ${balance:.4f}, and the cheapest generation of this run may cost "
                f"${cheapest_usd:.4f}. {POLICIES['no_credits'].advice}"
            ),
        )
    return None
