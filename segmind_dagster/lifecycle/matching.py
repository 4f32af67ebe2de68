"""Which row of Segmind's request history is which submission, and what proves that one never arrived. Pure.

A history may be late, truncated, or show a request in another form than it was sent in. So likeness has levels, from
exactly equal to plainly another request; everything in between is doubt, and doubt never leads to a purchase. The
lookup of lost submissions, `rebuild`, `resolve` and reconciliation all use this module. The gateway reads the history;
what then happens to a generation is decided in `states` and `next_step`.
"""

from __future__ import annotations

import html
import json
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import IntEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal

from rapidfuzz import fuzz, process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

CLOCK_TOLERANCE: Final = timedelta(minutes=2)
"""How far Segmind's clock and ours may differ for a row to be adopted."""

CLOCK_DOUBT: Final = timedelta(days=1)
"""How far a wrong clock, or a time without its zone, may be off: a row within that time leaves doubt."""

ABSENT_REVIEW: Final = timedelta(days=31)
"""How long a submission that was inferred absent is looked for in later readings: as far back as one query reaches
(official SDK 1.3.0, generations.py)."""

# similarity of two texts, 0 to 100, from which one may be an altered form of the other; unrelated ones have 30 to 55
_SIMILAR = 75.0
# shorter texts are names and sizes: a different one is another value, unless it was truncated
_SHORT_TEXT = 24
# float32 keeps 24 bits of a number
_FLOAT32 = Decimal(1) / 2**23
_MOST_DIGITS = 40
# comparisons that take at most a second, and how many submissions one row is compared with beyond that
_MOST_PAIRS = 50_000
_MOST_CANDIDATES = 64
# typographic quotes and dashes, and their plain text forms
_PLAIN = {"\u2018\u2019\u201a": "'", "\u201c\u201d\u201e": '"', "\u2013\u2014": "-", "\u2026": "..."}
_QUOTES = str.maketrans({character: plain for characters, plain in _PLAIN.items() for character in characters})
# a truncated escape or entity
_TORN_END = re.compile(r"(&[#\w]{0,8}|\\u?[0-9a-f]{0,3}|\N{REPLACEMENT CHARACTER}+|[.\s])+$")
_JSON_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|[\"\\/bfnrt])")
_RANDOM_SEED = -1
_PENDING: Final = frozenset({"PENDING", "QUEUED", "PROCESSING", "IN_PROGRESS", "RUNNING", "SUBMITTED", "STARTED"})


class Likeness(IntEnum):
    """How much a row of the history looks like a submission; a row is adopted from `REWRITTEN` on."""

    OTHER = 0
    """Plainly another request: another model, or different content."""
    SIMILAR = 1
    """Possibly ours, heavily altered: similar texts, a different parameter, an unreadable body."""
    ALTERED = 2
    """Ours as far as it is shown: texts truncated, keys left out, addresses replaced."""
    REWRITTEN = 3
    """Equal after normalising: case, Unicode form, escapes, number formats, a drawn seed; perhaps with keys added."""
    EXTENDED = 4
    """The very values that were sent, with keys added."""
    EXACT = 5
    """The very values that were sent, and nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryRow:
    """One request of the history, as far as it is understood.

    Args:
        request_id: Segmind's id.
        model_slug: the model as the history names it; empty when it does not.
        body: inputs as the history shows them; None when they cannot be read.
        created_at: when Segmind says it was made.
        status: as written there.
        cost_usd: charged.
        latency_ms: how long it took.
        error: why it failed.
        output_url: where its output is.
    """

    request_id: str
    model_slug: str
    body: Mapping[str, Any] | None
    created_at: datetime | None
    status: str | None = None
    cost_usd: Decimal | None = None
    latency_ms: int | None = None
    error: str | None = None
    output_url: str | None = None

    @property
    def is_unfinished(self) -> bool:
        """Whether the history says that the job is still in progress."""
        return self._plain_status in _PENDING

    @property
    def is_finished(self) -> bool:
        """Whether the history says that the job has its outcome."""
        return self.is_completed or self.is_failed

    @property
    def is_completed(self) -> bool:
        """Whether the history says that the job has its output."""
        return self._plain_status == "COMPLETED"

    @property
    def is_failed(self) -> bool:
        """Whether the history says that the job failed, which is free."""
        return self._plain_status == "FAILED"

    @property
    def is_free_failure(self) -> bool:
        """Whether it failed and nothing was charged: such a job leaves no doubt about a charge."""
        return self.is_failed and not self.cost_usd

    @property
    def _plain_status(self) -> str:
        return (self.status or "").strip().upper()


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A POST whose request id is not known, or not yet.

    Args:
        key: names it for the caller.
        model_slug: what was called.
        body: what was sent; local files may be left out.
        sent_at: when its intent was recorded; None: at any time.
    """

    key: str
    model_slug: str
    body: Mapping[str, Any]
    sent_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """How the history names models: by slug, or by other names that are learnt from our own requests.

    Args:
        slugs: models that Segmind sells, as far as we know.
        shown: names under which our own requests of a model were listed, by slug.
    """

    slugs: frozenset[str] = frozenset()
    shown: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def learnt(cls, slugs: Iterable[str], rows: Iterable[HistoryRow], owned: Mapping[str, str]) -> Names:
        """Learn from a reading.

        Args:
            slugs: models that Segmind sells.
            rows: of the history.
            owned: model slug by request id, of our own requests.
        """
        shown: defaultdict[str, set[str]] = defaultdict(set)
        for row in rows:
            if row.request_id in owned and row.model_slug:
                shown[owned[row.request_id]].add(row.model_slug)
        return cls(slugs=frozenset(slugs), shown={slug: frozenset(names) for slug, names in shown.items()})

    def likeness(self, name: str, slug: str) -> Likeness:
        """Whether a name in the history is that of a model: `EXACT`, `OTHER`, or `SIMILAR` when it is unclear."""
        if not name or plain_name(name) == plain_name(slug) or name in self.shown.get(slug, ()):
            return Likeness.EXACT
        if name in self.slugs or any(name in names for names in self.shown.values()):
            return Likeness.OTHER
        return Likeness.SIMILAR


@dataclass(frozen=True, slots=True, kw_only=True)
class Matches:
    """The result of matching submissions with a reading.

    Args:
        found: the row that is a submission's, by its key.
        doubts: rows that may be a submission's, most alike first, by its key; of those that were not found. A job
            that failed free of charge leaves no doubt: nothing was paid for.
    """

    found: Mapping[str, HistoryRow]
    doubts: Mapping[str, Sequence[tuple[Likeness, HistoryRow]]]


def plain_name(model: str) -> str:
    """A model's name as histories and catalogues may write it, reduced to what they have in common."""
    return re.sub(r"[^a-z0-9]", "", model.lower())


def match(
    submissions: Sequence[Submission],
    rows: Sequence[HistoryRow],
    *,
    names: Names = Names(),
    rivals: Sequence[Submission] = (),
    admits: Callable[[HistoryRow, Submission], Likeness] | None = None,
) -> Matches:
    """Match each submission with its own row, and each row with one submission at most.

    The best matches come first; a row that fits two different submissions equally well goes to neither.

    Args:
        submissions: what is looked for.
        rows: unowned rows of the history.
        names: how the history names models.
        rivals: other submissions whose request id is not known yet; a row that says what they sent is theirs.
        admits: the most that a row may count as for a submission, for what only the caller can look at.
    """
    pairing = _Pairing(submissions, rows, rivals, names)
    candidates = _Candidates(submissions)

    def add(number: int, position: int) -> None:
        row, submission = rows[position], submissions[number]
        likeness = compare(row, submission, names)
        if likeness and admits is not None:
            likeness = min(likeness, admits(row, submission))
        pairing.add(likeness, number, position)

    # nearly every row is found by its prompt and seed: only the rest is compared pair by pair
    for position, row in enumerate(rows):
        for number in candidates.with_same_text(row):
            add(number, position)
    pairing.assign()
    unmatched, free = pairing.unmatched(), pairing.free()
    is_small = len(unmatched) * len(free) <= _MOST_PAIRS
    for position in free:
        near = None if is_small else candidates.alike(rows[position], unmatched)
        for number in unmatched if near is None else near:
            add(number, position)
        if near is not None and len(near) >= _MOST_CANDIDATES:
            pairing.add_wildcard(position)
    pairing.assign()
    return pairing.matches()


def shows_another_buyer(
    rows: Sequence[HistoryRow], free: Sequence[HistoryRow], sent: Sequence[Submission], names: Names
) -> bool:
    """Whether another buyer buys the same with this account, as a second data folder does.

    Then no row shows its owner: two ledgers that cannot see each other might both adopt it.

    Args:
        rows: of the history.
        free: the unowned ones among them.
        sent: our own submissions whose request id is not known, whatever counts as having become of them.
        names: how the history names models.
    """
    unowned: defaultdict[tuple[str, str], list[HistoryRow]] = defaultdict(list)
    for row in free:
        if row.body and not row.is_failed:
            unowned[_words_of(row)].append(row)
    if not unowned:
        return False
    counts = Counter(_words_of(row) for row in rows)
    # a body listed only once may be the lost submission
    return any(
        len(alike) > (ours := sum(compare(alike[0], each, names) >= Likeness.ALTERED for each in sent))
        and (ours or counts[words] > len(alike))
        for words, alike in unowned.items()
        if counts[words] > 1
    )


def _words_of(row: HistoryRow) -> tuple[str, str]:
    return row.model_slug, json.dumps(row.body, sort_keys=True, default=str)


def may_be_bought(likeness: Likeness, row: HistoryRow, submission: Submission) -> bool:
    """Whether an unowned request may be for something that is about to be bought, which is then not bought."""
    # an unreadable body, or one with no similarity to any of ours, does not show its owner
    says_nothing = row.body is None or not row.body.keys() & submission.body.keys()
    return likeness >= Likeness.ALTERED or (likeness is Likeness.SIMILAR and says_nothing)


def admits_pictures(row: HistoryRow, wanted: Mapping[str, str], digests: Mapping[str, str | None]) -> Likeness:
    """The most that a row may count as for a submission with local pictures, which only their content tells apart.

    Args:
        row: of the history.
        wanted: content digests of the pictures, by their places in the body.
        digests: the same of what is at the addresses in the row; None where it cannot be read.
    """
    seen = {name: digests.get(str((row.body or {}).get(name))) for name in wanted}
    if any(digest not in {None, wanted[name]} for name, digest in seen.items()):
        return Likeness.OTHER
    # an address instead of a picture is no difference, and no proof
    return Likeness.ALTERED if None in seen.values() else Likeness.EXACT


class _Candidates:
    """Submissions by their longest text, so that thousands of rows need not be compared with thousands of them."""

    def __init__(self, submissions: Sequence[Submission]) -> None:
        self._longest = [max(_texts(submission.body), key=len, default="") for submission in submissions]
        self._by_key: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        for number, submission in enumerate(submissions):
            self._by_key[self._longest[number], _seed_of(submission.body)].append(number)
        self._offered: Counter[tuple[str, str]] = Counter()

    def with_same_text(self, row: HistoryRow) -> Iterable[int]:
        """Those with the text and the seed of a row; a few at a time where many are equal."""
        found: dict[int, None] = {}
        for text in dict.fromkeys(_texts(row.body or {})):
            for seed in dict.fromkeys((_seed_of(row.body or {}), str(_RANDOM_SEED), "")):
                group = self._by_key.get((text, seed), [])
                if group:
                    start = self._offered[text, seed] % len(group)
                    self._offered[text, seed] += 1
                    found.update(dict.fromkeys((group[start:] + group[:start])[:_MOST_CANDIDATES]))
        return found

    def alike(self, row: HistoryRow, among: Sequence[int]) -> list[int]:
        """Those of some whose text is similar or begins in the same way, a few at most, and all that have none."""
        longest = max(_texts(row.body or {}), key=len, default="")
        start = _TORN_END.sub("", longest)
        if not start:
            return list(among)
        texts = {number: self._longest[number] for number in among}
        found = [number for number, text in texts.items() if text.startswith(start)][:_MOST_CANDIDATES]
        if len(found) < _MOST_CANDIDATES:
            beginnings = {number: text[: len(start) + _SHORT_TEXT] for number, text in texts.items()}
            near = process.extract(
                start, beginnings, scorer=fuzz.ratio, score_cutoff=_SIMILAR / 2, limit=_MOST_CANDIDATES
            )
            found += [number for _, _, number in near]
        return list(dict.fromkeys([*found, *(number for number, text in texts.items() if not text)]))


def _seed_of(body: Mapping[str, Any]) -> str:
    """The seed of a body, however it is written; empty without one."""
    seed = next((value for key, value in body.items() if _is_seed(key)), None)
    number = _number(seed)
    return "" if number is None else f"{number.normalize():f}"


class _Pairing:
    """Which submission may have which row, and which one gets it."""

    def __init__(
        self,
        submissions: Sequence[Submission],
        rows: Sequence[HistoryRow],
        rivals: Sequence[Submission],
        names: Names,
    ) -> None:
        self._submissions, self._rows, self._rivals, self._names = submissions, rows, rivals, names
        self._likeness: dict[tuple[int, int], Likeness] = {}
        self._of_rivals: dict[int, list[tuple[Likeness, Submission]]] = {}
        self._found: dict[int, int] = {}
        self._taken: set[int] = set()
        self._wildcards: list[int] = []

    def add(self, likeness: Likeness, number: int, position: int) -> None:
        if likeness:
            self._likeness[number, position] = likeness

    def add_wildcard(self, position: int) -> None:
        """Add a row that is similar to too many submissions to compare it with each: it may belong to any of them."""
        self._wildcards.append(position)

    def unmatched(self) -> list[int]:
        return [number for number in range(len(self._submissions)) if number not in self._found]

    def free(self) -> list[int]:
        return [position for position in range(len(self._rows)) if position not in self._taken]

    def assign(self) -> None:
        at: defaultdict[int, list[tuple[Likeness, int]]] = defaultdict(list)
        for (number, position), likeness in self._likeness.items():
            at[position].append((likeness, number))
        # the more detailed submission chooses first: its row would also fit a less detailed one
        ordered = sorted(
            self._likeness.items(), key=lambda item: (-item[1], -len(self._submissions[item[0][0]].body), item[0])
        )
        for (number, position), likeness in ordered:
            if likeness < Likeness.REWRITTEN or number in self._found or position in self._taken:
                continue
            others = [
                self._submissions[other].body
                for level, other in at[position]
                if level >= likeness and other != number and other not in self._found
            ]
            # equal bodies are interchangeable, unless the answer to one of them may still name this very request
            is_anothers = any(level >= likeness for level, _ in self._rivals_at(position))
            body = self._submissions[number].body
            if not is_anothers and all(_are_equal(other, body) for other in others):
                self._found[number] = position
                self._taken.add(position)

    def matches(self) -> Matches:
        doubts: defaultdict[str, list[tuple[Likeness, HistoryRow]]] = defaultdict(list)
        for (number, position), likeness in sorted(self._likeness.items(), key=lambda item: -item[1]):
            if number in self._found or position in self._taken or self._rows[position].is_free_failure:
                continue
            # an exact match of another pending submission belongs to that one
            if any(level is Likeness.EXACT for level, _ in self._rivals_at(position)) and likeness < Likeness.EXACT:
                continue
            doubts[self._submissions[number].key].append((likeness, self._rows[position]))
        left = (each for each in self._wildcards if each not in self._taken and not self._rows[each].is_free_failure)
        wildcard = next(left, None)
        if wildcard is not None:
            for number in self.unmatched():
                doubts.setdefault(self._submissions[number].key, [(Likeness.SIMILAR, self._rows[wildcard])])
        return Matches(
            found={self._submissions[number].key: self._rows[position] for number, position in self._found.items()},
            doubts=dict(doubts),
        )

    def _rivals_at(self, position: int) -> list[tuple[Likeness, Submission]]:
        if position not in self._of_rivals:
            self._of_rivals[position] = [
                (likeness, rival)
                for rival in self._rivals
                if (likeness := compare(self._rows[position], rival, self._names))
            ]
        return self._of_rivals[position]


def _texts(value: Any) -> list[str]:
    """Every text in a body, also in nested values, folded."""
    if isinstance(value, str):
        parsed = _parsed(value) if value[:1] in {"[", "{"} else value
        return [_folded(value)] if isinstance(parsed, str) else _texts(parsed)
    if isinstance(value, Mapping):
        value = list(value.values())
    return [text for each in value for text in _texts(each)] if isinstance(value, list) else []


def clock_offset(rows: Iterable[HistoryRow], sent_at: Mapping[str, datetime]) -> timedelta:
    """How far the history's times are ahead of our ledger's, going by our own requests; zero when they do not agree.

    Args:
        rows: of the history.
        sent_at: when the intent of our own requests was recorded, by request id.
    """
    offsets = sorted(
        row.created_at - sent_at[row.request_id]
        for row in rows
        if row.created_at is not None and row.request_id in sent_at
    )
    if not offsets or offsets[-1] - offsets[0] > 2 * CLOCK_TOLERANCE:
        return timedelta(0)
    offset = offsets[0]
    return offset if CLOCK_TOLERANCE < abs(offset) <= CLOCK_DOUBT else timedelta(0)


def compare(row: HistoryRow, submission: Submission, names: Names = Names()) -> Likeness:
    """How much a row looks like a submission, in model, content and time."""
    model = names.likeness(row.model_slug, submission.model_slug)
    if model is Likeness.OTHER:
        # the provider may list it under another name, but then nothing else differs
        is_ours = compare_bodies(row.body, submission.body) is Likeness.EXACT
        return _at_its_time(Likeness.SIMILAR, row, submission) if is_ours else Likeness.OTHER
    content = compare_bodies(row.body, submission.body)
    if model is Likeness.SIMILAR and content:
        content = min(content, Likeness.ALTERED)
    return _at_its_time(content, row, submission)


def _at_its_time(likeness: Likeness, row: HistoryRow, submission: Submission) -> Likeness:
    if row.created_at is None or submission.sent_at is None or row.created_at >= submission.sent_at - CLOCK_TOLERANCE:
        return likeness
    if row.created_at < submission.sent_at - CLOCK_DOUBT:
        return Likeness.OTHER
    # a wrong time: ours only if a clock or a zone is wrong, and then its content must match
    return Likeness.SIMILAR if likeness >= Likeness.ALTERED else Likeness.OTHER


def compare_bodies(recorded: Mapping[str, Any] | None, sent: Mapping[str, Any]) -> Likeness:
    """How much a body in the history looks like one that was sent.

    Args:
        recorded: as the history shows it; None when it cannot be read.
        sent: as it was sent.
    """
    shared = [] if recorded is None else [key for key in sent if key in recorded]
    if recorded is None or not shared:
        return Likeness.SIMILAR
    levels = {key: _compare(recorded[key], sent[key], key=key) for key in shared}
    missing = [key for key in sent if key not in recorded]
    telling = [levels[key] for key in shared if _tells(sent[key])]
    if Likeness.OTHER in levels.values():
        # different content, or another number of contents: another request, unless nearly all of it is equal
        differing = [key for key, level in levels.items() if level is Likeness.OTHER]
        is_same_content = bool(telling) and min(telling) >= Likeness.REWRITTEN
        is_one_setting = len(differing) == 1 and not _tells(sent[differing[0]]) and not _is_seed(differing[0])
        return Likeness.SIMILAR if is_same_content and is_one_setting else Likeness.OTHER
    lowest = min(levels.values())
    if any(not _says_nothing(sent[key]) for key in missing):
        return min(lowest, Likeness.ALTERED)
    if missing:
        return min(lowest, Likeness.REWRITTEN)
    if lowest is Likeness.EXACT and recorded.keys() - sent.keys():
        return Likeness.EXTENDED
    return lowest


def _tells(value: Any) -> bool:
    """Whether a value is content, such as a prompt, rather than a setting."""
    return isinstance(value, (list, Mapping)) or (isinstance(value, str) and len(value) >= _SHORT_TEXT)


def _says_nothing(value: Any) -> bool:
    return value is None or value is False or (isinstance(value, (str, list, Mapping)) and not value)


def _is_seed(key: str) -> bool:
    return key.lower().endswith("seed")


def _compare(recorded: Any, sent: Any, *, key: str = "") -> Likeness:
    """One value; never `EXTENDED`, which is about keys."""
    if isinstance(recorded, str) and isinstance(sent, (list, Mapping)):
        recorded = _parsed(recorded)  # nested values sometimes come back as text
    if recorded is None or sent is None:
        return Likeness.EXACT if recorded is sent else Likeness.ALTERED
    if isinstance(sent, (list, Mapping)):
        return _compare_nested(recorded, sent)
    if isinstance(sent, bool):
        return _compare_switches(recorded, is_on=sent)
    if isinstance(recorded, str) and isinstance(sent, str):
        return _compare_texts(recorded, sent)
    numbers = _number(recorded), _number(sent)
    if numbers[0] is not None and numbers[1] is not None:
        return _compare_numbers(numbers[0], numbers[1], is_seed=_is_seed(key))
    return Likeness.EXACT if recorded == sent else Likeness.SIMILAR


def _compare_nested(recorded: Any, sent: Any) -> Likeness:
    if isinstance(recorded, Mapping) and isinstance(sent, Mapping):
        likeness = compare_bodies(recorded, sent) if sent else Likeness.EXACT
        return Likeness.REWRITTEN if likeness is Likeness.EXTENDED else likeness
    if isinstance(recorded, list) and isinstance(sent, list) and len(recorded) == len(sent):
        return min(
            (_compare(ours, theirs) for ours, theirs in zip(recorded, sent, strict=True)), default=Likeness.EXACT
        )
    if isinstance(recorded, str):
        return _compare_texts(recorded, json.dumps(sent, ensure_ascii=False))
    return Likeness.SIMILAR


def _compare_switches(recorded: Any, *, is_on: bool) -> Likeness:
    word = str(recorded).strip().lower()
    if word in {"true", "1", "1.0", "yes", "on"}:
        return Likeness.EXACT if is_on else Likeness.OTHER
    if word in {"false", "0", "0.0", "no", "off"}:
        return Likeness.OTHER if is_on else Likeness.EXACT
    return Likeness.SIMILAR


def _compare_numbers(recorded: Decimal, sent: Decimal, *, is_seed: bool) -> Likeness:
    if recorded == sent:
        return Likeness.EXACT
    if is_seed and sent == _RANDOM_SEED and recorded >= 0:
        return Likeness.REWRITTEN
    return Likeness.REWRITTEN if abs(recorded - sent) <= abs(sent) * _FLOAT32 else Likeness.OTHER


def _compare_texts(recorded: str, sent: str) -> Likeness:  # noqa: PLR0911  one line a level
    if recorded == sent:
        return Likeness.EXACT
    ours, theirs = _folded(sent), _folded(recorded)
    if ours == theirs:
        return Likeness.REWRITTEN
    if all(text.startswith(("http://", "https://", "data:")) for text in (ours, theirs)):
        # an input file may be listed at another address than the one sent
        return Likeness.ALTERED
    start = _TORN_END.sub("", theirs)
    if not start or ours.startswith(start):
        return Likeness.ALTERED
    number, other = _number(sent), _number(recorded)
    if number is not None and other is not None:
        return Likeness.EXACT if number == other else Likeness.OTHER
    if len(ours) < _SHORT_TEXT:
        return Likeness.OTHER
    likeness = max(fuzz.ratio(ours, theirs), fuzz.ratio(ours[: len(start)], start))
    if len(theirs) >= _SHORT_TEXT:
        likeness = max(likeness, fuzz.partial_ratio(ours, theirs))
    return Likeness.SIMILAR if likeness >= _SIMILAR else Likeness.OTHER


@lru_cache(maxsize=1 << 15)
def _folded(text: str) -> str:
    """A text normalised for what a history may change: escapes, entities, Unicode forms, quotes, case, white space."""
    if "\\" in text:
        text = _JSON_ESCAPE.sub(lambda found: str(_parsed(f'"{found.group()}"')), text)
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if "&" in text:
        text = html.unescape(html.unescape(text))
    text = unicodedata.normalize("NFKC", text.translate(_QUOTES)).translate(_QUOTES)
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).split())


def _number(value: Any) -> Decimal | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str, Decimal)):
        return None
    text = str(value).strip()
    if len(text) > _MOST_DIGITS:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _are_equal(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one == other or compare_bodies(one, other) is Likeness.EXACT


Absence = Literal["absent", "wait", "doubt"]
"""Never arrived; not certain yet; a row may match."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A request that Segmind accepted, by our own ledger.

    Args:
        request_id: Segmind's id.
        model_slug: what was called.
        accepted_at: when its acceptance was recorded.
        is_answered: whether the answer to its POST named it, so that it was made after that was sent. What the history
            showed may have been made earlier, for an equal POST.
    """

    request_id: str
    model_slug: str
    accepted_at: datetime
    is_answered: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One whole reading of the history, and what our ledger knew right after it.

    Args:
        asked_s: when it was asked, on the monotonic clock.
        asked_at: the same on the clock of the ledger.
        listed: request ids in it.
        accepted: what the ledger knows to have been accepted in the window.
    """

    asked_s: float
    asked_at: datetime
    listed: frozenset[str]
    accepted: Sequence[Accepted]

    def lists_all(self, settling_time: timedelta) -> bool:
        """Whether it lists every accepted request of our own that had half a settling time to be listed."""
        return all(
            each.request_id in self.listed
            for each in self.accepted
            if each.accepted_at <= self.asked_at - settling_time / 2
        )

    def lists_all_before(self, submission: Submission) -> bool:
        """Whether it lists every accepted request of our own that was accepted before a submission was sent."""
        return all(
            each.request_id in self.listed
            for each in self.accepted
            if submission.sent_at is None or each.accepted_at <= submission.sent_at
        )

    def has_control(self, lost: Submission) -> bool:
        """Whether a request of the same model, accepted after a submission was sent, is listed."""
        return lost.sent_at is not None and any(
            each.is_answered
            and each.request_id in self.listed
            and each.model_slug == lost.model_slug
            and each.accepted_at >= lost.sent_at
            for each in self.accepted
        )


# settling times that readings have to span without a control; and where the answer was an error, which says itself that
# there is no job
_WITHOUT_CONTROL: Final = 8
_REFUSED_WITHOUT_CONTROL: Final = 3


def judge_absence(
    lost: Submission,
    readings: Sequence[Reading],
    *,
    waited_s: float,
    settling_time: timedelta,
    job_s: float,
    is_doubted: bool,
) -> Absence:
    """Whether whole readings prove that a submission never arrived.

    Args:
        lost: the submission.
        readings: whole ones of this run, oldest first.
        waited_s: how long this run has known that it is lost, in seconds on the monotonic clock.
        settling_time: the settling time: how late the history may be.
        job_s: how long it may take until the history lists a job, in seconds; 0 where it lists jobs before their end.
        is_doubted: whether a row of the last reading may be it.
    """
    if is_doubted:
        return "doubt"
    settling_time_s = settling_time.total_seconds()
    if waited_s < settling_time_s + job_s:
        return "wait"
    if not readings or not readings[-1].lists_all(settling_time):
        return "wait"
    last = readings[-1]
    earlier = [
        each
        for each in readings
        if last.asked_s - each.asked_s >= settling_time_s / 2 and each.lists_all(settling_time)
    ]
    if last.has_control(lost) and any(each.has_control(lost) for each in earlier):
        return "absent"
    is_far = any(
        last.asked_s - each.asked_s >= settling_time_s * _WITHOUT_CONTROL and each.accepted for each in earlier
    )
    return "absent" if is_far and last.accepted else "wait"


def shows_refusal(
    refused: Submission,
    reading: Reading,
    *,
    waited_s: float,
    settling_time: timedelta,
    job_s: float,
    is_listed_as_failed: bool = False,
    finds_out: bool = True,
) -> bool:
    """Whether a reading that lists no such request shows that one which was answered with an error never became a job.

    The error already suggests it, so that one reading will do, also one that is not whole.

    Args:
        refused: the submission.
        reading: in which no row is, or may be, it.
        waited_s: how long this run has known of the error, in seconds on the monotonic clock.
        settling_time: the settling time: how late the history may be.
        job_s: as for `judge_absence`.
        is_listed_as_failed: whether it lists a job of the same content that failed, which is free.
        finds_out: whether this one may be sent again while no accepted request is known, which would show that the
            history lists anything: one has to find out.
    """
    settling_times = (waited_s - job_s) / settling_time.total_seconds() if settling_time else float("inf")
    if settling_times < 1 or not reading.lists_all_before(refused):
        return False
    is_known = finds_out or bool(reading.accepted)
    is_far = settling_times >= _REFUSED_WITHOUT_CONTROL and is_known and reading.lists_all(settling_time)
    return is_far or is_listed_as_failed or reading.has_control(refused)
