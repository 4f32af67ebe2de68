"""Batched operations: one query and a few statements for many callers.

Hundreds of generations make the same move at the same time, and a statement for each costs more than the commit they
share. Which callers share a batch is decided in `commits`, what the moves are in `moves`.
"""

from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Generic, ParamSpec, TypeVar

from segmind_dagster.errors import SegmindDagsterError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection

_P = ParamSpec("_P")
_Ask = TypeVar("_Ask")
_Answer = TypeVar("_Answer")


class Batched(Generic[_P, _Ask, _Answer]):
    """An operation for one caller, or for a batch of them.

    Args:
        ask: makes a caller's arguments one value; their types are the operation's.
        many: answers many such values, in their order; a refusal stands in the place of an answer. It decides about
            all of them before its first write, as every operation does.
    """

    def __init__(
        self,
        ask: Callable[_P, _Ask],
        many: Callable[[Connection, Sequence[_Ask]], Sequence[_Answer | SegmindDagsterError]],
    ) -> None:
        self.ask = ask
        self.many = many
        update_wrapper(self, many)

    def __call__(self, connection: Connection, /, *args: _P.args, **kwargs: _P.kwargs) -> _Answer:
        """Run it for one caller alone.

        Raises:
            SegmindDagsterError: it is refused.
        """
        (answer,) = self.many(connection, [self.ask(*args, **kwargs)])
        if isinstance(answer, SegmindDagsterError):
            raise answer
        return answer


def batched(
    ask: Callable[_P, _Ask],
) -> Callable[
    [Callable[[Connection, Sequence[_Ask]], Sequence[_Answer | SegmindDagsterError]]], Batched[_P, _Ask, _Answer]
]:
    """Make a function of many asks a batched operation.

    Args:
        ask: makes a caller's arguments one value, e.g. the dataclass that holds them.
    """
    return lambda many: Batched(ask, many)
