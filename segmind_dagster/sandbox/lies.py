"""How the provider's word may differ from its books: what its history leaves out, pages, alters, and misprices.

Values only, checked when they are built, each lie alone or together with others. Jobs run and are charged as always:
the books (`account`) never lie. How each lie looks is in `lying_history`, `altered_rows` and `lying_money`; refusals
of jobs that were accepted all the same are faults (`faults.LATE_ERRORS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from segmind_dagster.errors import SettingsError

PageTurn = Literal[
    "ok",
    "empty",  # no rows, and a total of none
    "unreadable",  # 200 with a body that is not JSON
]
Workspace = Literal[
    "own",
    "empty",  # another workspace's history, in which nothing was ever asked for
    "strangers",  # another workspace's history, with requests of its own
]
TotalPages = Literal[
    "right",
    "rounded_down",
    "one",
    "of_asked_size",  # counted with the page size that was asked for, whatever the page size is
    "absent",
]
Total = Literal["right", "too_small", "absent"]
RepeatedPage = Literal[
    "none",
    "first",  # every page is the first
    "previous",  # every page after the first is the one before it
]
PastEnd = Literal["empty", "first", "last", "400", "404"]
Alteration = Literal[
    # the model
    "model_title",  # its display name
    "model_upper",
    "model_separators",  # blanks and underscores for hyphens
    # texts in the body
    "cut",  # to `cut_at` characters
    "cut_dots",  # with ... behind
    "cut_ellipsis",  # with an ellipsis character behind
    "cut_bytes",  # to `cut_at` bytes, in the middle of a character
    "html_escaped",
    "nfc",
    "nfd",
    "nfkc",
    "lower",
    "upper",
    "whitespace_collapsed",
    "whitespace_trimmed",
    "smart_quotes",
    # numbers and booleans
    "float32",
    "integers_as_floats",
    "numbers_as_text",
    "booleans_as_text",
    "booleans_as_numbers",
    "drawn_seed",  # the seed that was used, in place of -1
    # keys
    "defaults_added",
    "nulls_added",
    "nulls_dropped",
    "falses_dropped",
    "key_dropped",  # one of them, which is not the prompt when there is another
    "pictures_replaced",  # addresses of input pictures
    # the body as a whole
    "body_as_text",
    "body_missing",
    # the moment
    "time_other_zone",
    "time_without_zone",
    "time_hour_off",
    "time_missing",
    "time_epoch_s",
    "time_epoch_ms",
]
CostLie = Literal["right", "absent", "nan", "infinity", "text", "negative", "absurd"]

ALTERATIONS: tuple[Alteration, ...] = get_args(Alteration)
COST_LIES: tuple[CostLie, ...] = get_args(CostLie)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lies:
    """How the provider lies; by default it does not.

    Args:
        seed: of every choice below that is drawn: the same rows are left out and altered whatever the timing.
        workspace: whose history a key sees.
        page_script: consumed one entry per page that would have shown rows, before anything else applies.
        empty_readings: so many readings of the history (each begins with page 1) that would have shown rows show none;
            None for all of them.
        lag_s: a row shows up so long after its request was accepted.
        lag_spread_s: up to so much later, drawn for each row.
        lag_by_model: slug -> how much later still.
        finished_only: whether requests without an outcome are left out.
        omitted_share: share of the requests that never show up, 0 to 1.
        page_cap: most rows a page has, whatever is asked for.
        total_pages: what is said of the number of pages.
        total: what is said of the number of rows.
        repeated_page: which page comes instead of the one that was asked for.
        is_unsorted: whether rows stand in another order at each request.
        inserted_per_page: rows of strangers that come in on top before each page after the first.
        past_end: what is answered for a page after the last.
        alterations: what is done to each row, in this order.
        altered_share: share of the requests whose rows are altered, 0 to 1.
        cut_at: where texts are cut.
        not_found_s: status and result answer 404 for so long after the acceptance.
        repeated_id_share: share of the submissions that are told the request id of the one before, 0 to 1.
        price_factor: what a job costs, as a multiple of the usual price.
        cost_in_results: what status and results say of the cost.
        cost_in_headers: what v1 headers say of it.
        cost_in_history: what the history says of it.
        balance: what is said of the balance, anywhere.

    Raises:
        SettingsError: an unknown kind of lie, or a number that makes no sense.
    """

    seed: int = 0
    workspace: Workspace = "own"
    page_script: Sequence[PageTurn] = ()
    empty_readings: int | None = 0
    lag_s: float = 0.0
    lag_spread_s: float = 0.0
    lag_by_model: Mapping[str, float] = field(default_factory=dict)
    finished_only: bool = False
    omitted_share: float = 0.0
    page_cap: int | None = None
    total_pages: TotalPages = "right"
    total: Total = "right"
    repeated_page: RepeatedPage = "none"
    is_unsorted: bool = False
    inserted_per_page: int = 0
    past_end: PastEnd = "empty"
    alterations: Sequence[Alteration] = ()
    altered_share: float = 1.0
    cut_at: int = 24
    not_found_s: float = 0.0
    repeated_id_share: float = 0.0
    price_factor: float = 1.0
    cost_in_results: CostLie = "right"
    cost_in_headers: CostLie = "right"
    cost_in_history: CostLie = "right"
    balance: CostLie = "right"

    def __post_init__(self) -> None:
        object.__setattr__(self, "page_script", tuple(self.page_script))
        object.__setattr__(self, "alterations", tuple(self.alterations))
        object.__setattr__(self, "lag_by_model", MappingProxyType(dict(self.lag_by_model)))
        for name, kinds in _CHOICES.items():
            value = getattr(self, name)
            for chosen in value if isinstance(value, tuple) else (value,):
                if chosen not in kinds:
                    raise SettingsError(
                        "lies", f"{name} has {chosen!r}, which is not one of them: {', '.join(map(str, kinds))}"
                    )
        for name in ("omitted_share", "altered_share", "repeated_id_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError("lies", f"{name} is {getattr(self, name)!r}; it must lie between 0 and 1")
        for name in ("lag_s", "lag_spread_s", "inserted_per_page", "not_found_s", "price_factor"):
            if getattr(self, name) < 0:
                raise SettingsError("lies", f"{name} is {getattr(self, name)!r}; it must not be negative")
        for name, least in (("page_cap", 1), ("cut_at", 1), ("empty_readings", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise SettingsError("lies", f"{name} is {value!r}; it must be {least} or more")

    @classmethod
    def from_json(cls, payload: Mapping[str, Any]) -> Lies:
        """Lies as `POST /sandbox/settings` takes them: the same fields.

        Raises:
            SettingsError: a field is unknown or malformed.
        """
        try:
            return cls(**payload)
        except (TypeError, ValueError, AttributeError) as error:
            raise SettingsError("lies", f"cannot read {payload!r}: {error}") from error


def _choices() -> Mapping[str, tuple[Any, ...]]:
    """The literals that a field takes, by its name; of a sequence those of its entries."""
    found: dict[str, tuple[Any, ...]] = {}
    for name, hint in get_type_hints(Lies).items():
        literal = get_args(hint)[0] if get_origin(hint) is Sequence else hint
        if get_origin(literal) is Literal:
            found[name] = get_args(literal)
    return MappingProxyType(found)


_CHOICES = _choices()
NO_LIES = Lies()
