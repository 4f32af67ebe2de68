"""The charts of the usage report, declared with Altair; what they say is in `usage_report`.

Rendered here to SVG for the page, which then needs neither a script library nor a network, and to small PNGs for
Dagster's UI. Amounts become floats only to be drawn: sums and tables are made of the decimals themselves.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import altair as alt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Rows = list[dict[str, Any]]
# Altair's own annotations lose the type at every step
Drawing = Any

_WIDTH, _HEIGHT, _BAR = 440, 220, 22
_SIDE_BY_SIDE = 8  # days
_UNITS = {"day": "utcyearmonthdate", "week": "utcyearweek", "month": "utcyearmonth"}
# told apart by people who see red and green alike, in the dark too
_GOOD, _BAD, _UNSURE, _OPEN = "#3b82c4", "#d9603b", "#e0a93b", "#9a948c"
_INK, _PAPER = "#1c1b1a", "#ffffff"


@dataclass(frozen=True, slots=True)
class Part:
    """One colour of a stacked bar.

    Args:
        column: of the summary.
        label: in the legend.
        colour: of the bar.
    """

    column: str
    label: str
    colour: str


MONEY = (Part("cost_usd", "charged", _GOOD), Part("estimated_cost_usd", "estimated or reserved", _UNSURE))
OUTCOMES = (
    Part("succeeded", "stored", _GOOD),
    Part("failed", "failed", _BAD),
    Part("unknown", "unknown outcome", _UNSURE),
    Part("unfinished", "not finished", _OPEN),
)
ATTEMPTS = (Part("succeeded", "stored", _GOOD), Part("failed", "failed", _BAD))
ATTEMPTS_OF_KIND = (Part("attempts", "submissions", _BAD),)
EACH = (Part("cost_per_output_usd", "each", _GOOD),)
SAVED = (Part("saved_usd", "saved", _GOOD),)
LATENCIES = (
    Part("latency_p50_ms", "half within", _GOOD),
    Part("latency_p95_ms", "95 % within", _UNSURE),
    Part("latency_p99_ms", "99 % within", _BAD),
)


def over_time(
    rows: Sequence[Mapping[str, Any]], period: str, parts: Sequence[Part], *, axis: str, form: str
) -> Drawing:
    """Bars over time.

    Args:
        rows: at least one, each with a `day`.
        period: what a bar stands for: day, week or month.
        parts: what is stacked.
        axis: title of the vertical axis.
        form: of its numbers, as d3 writes it.
    """
    days = sorted(row["day"] for row in rows)
    span = (days[-1] - days[0]).days
    # few days stand side by side, with those between them on which nothing happened; many are a line of time
    is_short = span < _SIDE_BY_SIDE
    values = _long(rows, "day", parts)
    if is_short:
        between = {str(days[0] + timedelta(days=number)) for number in range(span)} - {str(day) for day in days}
        values += [{"name": day, "part": parts[0].label, "place": 0, "amount": 0} for day in sorted(between)]
    chart = (
        _chart(values)
        .mark_bar()
        .encode(
            x=alt.X(f"{_UNITS[period]}(name):{'O' if is_short else 'T'}", title=None, axis=_time_axis(period)),
            y=alt.Y("sum(amount):Q", title=axis, axis=_scale_axis(form)),
            color=_colour(parts),
            order=alt.Order("place:Q"),
        )
    )
    return _sized(chart, _HEIGHT)


def by_name(
    rows: Sequence[Mapping[str, Any]], column: str, parts: Sequence[Part], *, axis: str, form: str, most_bars: int
) -> Drawing:
    """Horizontal bars, the longest first.

    Args:
        rows: of a summary.
        column: that names the bars.
        parts: what is stacked.
        axis: title of the horizontal axis.
        form: of its numbers, as d3 writes it.
        most_bars: how many of the largest are drawn.
    """
    kept = _largest(rows, parts, most_bars)
    chart = (
        _chart(_long(kept, column, parts))
        .mark_bar()
        .encode(
            y=_names(kept, column),
            x=alt.X("amount:Q", title=axis, axis=_scale_axis(form)),
            color=_colour(parts) if len(parts) > 1 else alt.value(parts[0].colour),
            order=alt.Order("place:Q"),
        )
    )
    return _sized(chart, _height(kept))


def spread(rows: Sequence[Mapping[str, Any]], column: str, parts: Sequence[Part], *, most_bars: int) -> Drawing:
    """A line for each name, from the usual to the worst, in seconds.

    Args:
        rows: of a summary.
        column: that names the lines.
        parts: the percentiles, in ms.
        most_bars: how many lines are drawn, of the largest.
    """
    kept = _largest(rows, parts[1:2], most_bars)
    values = [{**value, "amount": value["amount"] / 1000} for value in _long(kept, column, parts)]
    base = _chart(values).encode(y=_names(kept, column))
    line = base.mark_line(color=_OPEN, strokeWidth=2, aria=False).encode(x="amount:Q", detail="name:N")
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("amount:Q", title="seconds", axis=alt.Axis(tickCount=5)), color=_colour(parts)
    )
    return _sized(alt.layer(line, points), _height(kept))


def to_svg(chart: Drawing, *, name: str) -> str:
    """A chart as SVG for a page: it takes the page's text colour, so that it is read in the dark too.

    Args:
        chart: what to draw.
        name: what assistive technology calls it.
    """
    buffer = io.StringIO()
    _styled(chart.properties(description=name), ink="currentColor", paper="transparent").save(buffer, format="svg")
    return buffer.getvalue()


def to_png(chart: Drawing) -> bytes:
    """A chart as a PNG of a few kilobytes, on white."""
    from PIL import Image

    large = io.BytesIO()
    _styled(chart, ink=_INK, paper=_PAPER).save(large, format="png", scale_factor=1.25)
    small = io.BytesIO()
    with Image.open(large) as picture:
        picture.convert("RGB").quantize(colors=48).save(small, "PNG", optimize=True)
    return small.getvalue()


def _chart(values: Rows) -> alt.Chart:
    return alt.Chart(alt.InlineData(values=values))


def _sized(chart: Drawing, height: int) -> Drawing:
    return chart.properties(width=_WIDTH, height=height)


def _long(rows: Sequence[Mapping[str, Any]], column: str, parts: Sequence[Part]) -> Rows:
    """A value for each bar and colour; what is not known is left out, not drawn as nothing."""
    return [
        {"name": str(row[column]), "part": part.label, "place": place, "amount": float(row[part.column])}
        for row in rows
        for place, part in enumerate(parts)
        if row.get(part.column) is not None
    ]


def _largest(rows: Sequence[Mapping[str, Any]], parts: Sequence[Part], most: int) -> list[Mapping[str, Any]]:
    def size(row: Mapping[str, Any]) -> Decimal:
        return sum((Decimal(row[part.column]) for part in parts if row.get(part.column) is not None), Decimal(0))

    return sorted(rows, key=size, reverse=True)[:most]


def _names(rows: Sequence[Mapping[str, Any]], column: str) -> alt.Y:
    order = [str(row[column]) for row in rows]
    return alt.Y("name:N", title=None, sort=order, axis=alt.Axis(labelLimit=230, ticks=False, domain=False))


def _colour(parts: Sequence[Part]) -> alt.Color:
    return alt.Color(
        "part:N",
        title=None,
        sort=[part.label for part in parts],
        scale=alt.Scale(domain=[part.label for part in parts], range=[part.colour for part in parts]),
        legend=alt.Legend(orient="top", direction="horizontal", columns=2),
    )


def _scale_axis(form: str) -> alt.Axis:
    if form.endswith("d"):
        # of things there are whole numbers only
        return alt.Axis(tickCount=5, labelExpr=f"datum.value % 1 ? '' : format(datum.value, '{form}')")
    return alt.Axis(format=form, tickCount=5)


def _time_axis(period: str) -> alt.Axis:
    return alt.Axis(format="%b %Y" if period == "month" else "%d %b", labelAngle=0, labelOverlap=True, grid=False)


def _height(rows: Sequence[Any]) -> int:
    return 70 + max(2, len(rows)) * _BAR


def _styled(chart: Drawing, *, ink: str, paper: str) -> Drawing:
    return (
        chart.properties(background=paper, autosize=alt.AutoSizeParams(type="fit", contains="padding"), padding=4)
        .configure(font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=ink, titleColor=ink, labelFontSize=12, titleFontSize=12, titleFontWeight="normal",
            gridColor=ink, gridOpacity=0.15, domainColor=ink, domainOpacity=0.4, tickColor=ink, tickOpacity=0.4,
        )
        .configure_legend(labelColor=ink, labelFontSize=12, labelLimit=220)
    )  # fmt: skip
