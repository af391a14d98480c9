"""The charts of the report, which are also logged to the experiment tracker."""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import altair as alt
import pandas as pd
import vl_convert

from hustings.experiments.report.words import (
    POLICIES,
    Row,
    Span,
    as_span,
    interval_text,
    large_cells,
    message_labels,
    number_text,
    people_text,
    policies_shown,
    slugs_of,
    titles_of,
    usd_text,
)
from hustings.experiments.results import ContactsOfDay, PlanSummary
from hustings.features.tables import SMALLEST_CELL

HEAT_MAP_MESSAGES, HEAT_MAP_GROUPS = 12, 28
"""Only the largest groups are drawn: noise in small ones would set the colours."""
CHART_MESSAGES_TOP, CHART_MESSAGES_BOTTOM = 14, 6
CHART_WIDTH_PX = 760
Figure = alt.Chart | alt.LayerChart

BLUE, VERMILLION, GREEN, GREY, INK = (
    "#0067a3", "#c8500a", "#00795a", "#8b939c", "#1c2833",
)  # fmt: skip
CROSSES_ZERO, CELL_INK = "#e6e9ec", "#1b2732"
"""Words on a coloured cell keep their colour where the page is dark, INK does not."""
CHANNEL_COLOURS = [
    "#0067a3", "#e69f00", "#00795a", "#cc79a7", "#56b4e9", "#c8500a", "#8b939c",
    "#5b4b8a",
]  # fmt: skip
CURVE_STYLE = {
    "Personalised": (BLUE, [1, 0]),
    "Best mix, untargeted": (VERMILLION, [7, 3]),
    "One split": (GREEN, [2, 2]),
    "Single best message": (GREY, [8, 3, 2, 3]),
}
BANDED = ("Personalised", "Best mix, untargeted")
"""Only the two policies of the deciding comparison get bands: four would overlap."""


def figures(
    evaluation: Mapping[str, Any], plan: PlanSummary | None, messages: pd.DataFrame
) -> dict[str, Figure]:
    """Every chart of the report, the same that go to the experiment tracker.

    Args:
        evaluation: As in `evaluation.json`, effects in outcome units.
        plan: The plan's summary; None before anything is planned.
        messages: The `messages` table.

    Returns:
        Charts by name: `<experiment>/policies`, `/messages`, `/segments`, `/curve`,
        `/calibration`, `/reliability`, and `overview` and `schedule` for the whole; a
        chart without data is left out.
    """
    experiments = evaluation["experiments"]
    unit = float(evaluation["outcome"]["unit_per_point"])
    issues = dict(zip(messages["message_id"], messages["issue"], strict=True))
    titles = titles_of(messages)
    drawn: dict[str, Figure | None] = {
        "overview": _overview_chart(experiments, unit),
        "schedule": _schedule_chart(() if plan is None else plan.contacts_by_day),
    }
    for experiment_id, slug in slugs_of(experiments).items():
        result = experiments[experiment_id]
        budget_usd = evaluation["spend_per_voter_usd"]
        drawn |= {
            f"{slug}/policies": _policies_chart(result, unit),
            f"{slug}/messages": _messages_chart(result, unit, issues, titles),
            f"{slug}/segments": _segments_chart(result, unit, titles),
            f"{slug}/curve": _curve_chart(result, unit, budget_usd),
            f"{slug}/calibration": _calibration_chart(result, unit),
            f"{slug}/reliability": _reliability_chart(result),
        }
    return {name: styled(chart) for name, chart in drawn.items() if chart is not None}


def trials_figure(trials: pd.DataFrame) -> Figure | None:
    """Held-out loss of every trial less that of trial 0, the defaults.

    Args:
        trials: experiment, half, number, value, state; a row per trial.

    Returns:
        None where no trial has a value to compare.
    """
    evaluated = trials.dropna(subset=["value"])
    first = evaluated[evaluated["number"] == 0].set_index(["experiment", "half"])[
        "value"
    ]
    where = pd.MultiIndex.from_frame(evaluated[["experiment", "half"]])
    less = evaluated["value"].to_numpy() - first.reindex(where).to_numpy()
    against_default = evaluated.assign(loss=less).dropna(subset=["loss"])
    if against_default.empty:
        return None
    plotted = against_default[["experiment", "half", "number", "state", "loss"]]
    rows = [{str(k): v for k, v in row.items()} for row in plotted.to_dict("records")]
    base = on_rows(rows).encode(
        x=alt.X("number:Q", title="trial", axis=alt.Axis(tickMinStep=1, grid=False)),
        y=alt.Y("loss:Q", title="held-out loss less that of the defaults"),
        color=alt.Color("half:N", scale=alt.Scale(range=[BLUE, GREEN, VERMILLION])),
    )
    best = base.transform_filter("datum.state == 'COMPLETE'").transform_window(
        best="min(loss)", sort=[alt.SortField("number")],
        groupby=["experiment", "half"], frame=[None, 0],
    )  # fmt: skip
    steps = best.mark_line(interpolate="step-after", strokeWidth=2).encode(
        y=alt.Y("best:Q"), detail="experiment:N"
    )
    shape = alt.Shape(
        "state:N", scale=alt.Scale(domain=["COMPLETE", "PRUNED"],
                                   range=["circle", "cross"])
    )  # fmt: skip
    points = base.mark_point(size=70).encode(shape=shape)
    title = "Trials: complete (circle, with the best so far) and pruned (cross)"
    drawn = _layers(_zero("y"), steps, points)
    return styled(drawn.properties(height=320, title=title))


def figure_png(chart: Figure) -> bytes:
    """A chart as a PNG picture, drawn without a browser or a network."""
    png: bytes = vl_convert.vegalite_to_png(
        chart.to_dict(), vl_version=vega_lite(), scale=2
    )
    return png


def figure_svg(chart: Figure, name: str, width_px: int) -> str:
    """A chart as SVG that stands in a page without a script.

    Args:
        chart: The chart; headings of the page are its title.
        name: Distinct within the page: what the picture refers to is named after it.
        width_px: Of the picture, labels included.
    """
    spec: dict[str, Any] = chart.to_dict()
    spec.pop("title", None)
    spec |= {
        "width": width_px,
        "autosize": {"type": "fit-x", "contains": "padding"},
        # colours are the page's own; words are measured as they are drawn
        "config": spec["config"]
        | {"background": None, "aria": False, "font": MEASURED_FONT},
    }
    prefix = f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}-{width_px}-"
    return re.sub(r'(\bid="|url\(#)', rf"\g<1>{prefix}", _drawn(json.dumps(spec)))


MEASURED_FONT = "Arial, 'Liberation Sans', Helvetica, sans-serif"


@lru_cache(maxsize=128)
def _drawn(spec: str) -> str:
    svg: str = vl_convert.vegalite_to_svg(spec, vl_version=vega_lite())
    return svg


def vega_lite() -> str:
    """The Vega-Lite version that altair writes, as the converter names it."""
    return ".".join(alt.SCHEMA_VERSION.lstrip("v").split(".")[:2])


def styled(chart: Figure) -> Figure:
    """A chart in the colours and type of the page."""
    font = "system-ui, -apple-system, 'Segoe UI', Roboto, Arial, sans-serif"
    styled: Figure = (
        chart.properties(width=CHART_WIDTH_PX)
        .configure(font=font, background="white")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=INK, titleColor="#56616c", gridColor="#eceff1", labelFontSize=12,
            titleFontSize=12, titleFontWeight="normal", domainColor="#c3cad1",
            tickColor="#c3cad1", labelLimit=240,
        )
        .configure_legend(
            orient="top", labelFontSize=12, labelColor=INK, title=None, columns=3,
            symbolStrokeWidth=2.5, labelLimit=260,
        )
        .configure_title(anchor="start", fontSize=15, color=INK)
    )  # fmt: skip
    return styled


def on_rows(rows: Iterable[Row]) -> alt.Chart:
    """An empty chart on rows that are written into the page itself."""
    rounded = [{k: _rounded(v) for k, v in row.items()} for row in rows]
    return alt.Chart({"values": rounded})


def _layers(*layers: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(layer=list(layers))


def _rounded(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return round(value, 4) if math.isfinite(value) else None


def _span_row(span: Span) -> dict[str, Any]:
    return {
        **span._asdict(),
        "text": interval_text(span),
        "short": interval_text(span, ""),
    }


def _zero(axis: str = "x") -> alt.Chart:
    at: dict[str, Any] = {axis: alt.datum(0)}
    line: alt.Chart = on_rows([{}]).mark_rule(color="#56616c").encode(**at)
    return line


def _points_axis(title: str = "points", padding_px: int = 12) -> alt.X:
    return alt.X(
        "value:Q",
        title=title,
        scale=alt.Scale(zero=True, nice=False, padding=padding_px),
        axis=alt.Axis(tickCount=6, labelFlush=True),
    )


def _forest(rows: Sequence[Row], label: str, title: str) -> alt.LayerChart:
    """One dot with its interval a row, its numbers written above it."""
    base = on_rows(rows).encode(
        x=_points_axis(title, padding_px=55),
        y=alt.Y(f"{label}:N", sort=[row[label] for row in rows], title=None),
        tooltip=[alt.Tooltip(f"{label}:N", title=" "), alt.Tooltip("text:N")],
    )
    colour = alt.Color("colour:N", scale=None)
    ends = {"x": alt.X("low:Q"), "x2": alt.X2("high:Q"), "color": colour}
    words = base.mark_text(dy=-12, fontSize=12, color=INK).encode(text="short:N")
    # the words stand free of the zero line on a white edge of their own
    edge = base.mark_text(dy=-12, fontSize=12, stroke="white", strokeWidth=5)
    return _layers(
        _zero(),
        base.mark_rule(strokeWidth=2.5).encode(**ends),
        base.mark_circle(size=90, opacity=1).encode(color=colour),
        edge.encode(text="short:N"),
        words,
    ).properties(height=44 * len(rows))


def _overview_chart(experiments: Mapping[str, Row], unit: float) -> Figure | None:
    if len(experiments) < 2:
        return None
    rows = []
    for experiment_id, result in experiments.items():
        span = as_span(result["gain_from_personalising"], unit)
        colour = BLUE if span.low > 0 else GREY
        rows.append({"experiment": experiment_id, "colour": colour, **_span_row(span)})
    title = "What personalising adds over the best untargeted choice, points"
    return _forest(rows, "experiment", "points").properties(title=title)


def _policies_chart(result: Row, unit: float) -> Figure | None:
    rows = [
        {
            "policy": f"{label} (chosen)" if name == result["champion"] else label,
            "colour": BLUE if name == result["champion"] else INK,
            **_span_row(as_span(result["policies"][name]["gain"], unit)),
        }
        for name, label in policies_shown(result).items()
    ]
    title = "Gain of each policy at the same budget"
    return _forest(rows, "policy", "points per voter").properties(title=title)


def best_first(result: Row) -> list[Row]:
    """Messages sent to at least `SMALLEST_CELL` people, the strongest first."""
    large_enough = large_cells(result["messages"], "n_sent")
    return sorted(large_enough, key=lambda row: -as_span(row["shrunken"]).value)


def extremes(messages: Sequence[Row]) -> list[Row]:
    """The messages that are drawn: all, or the strongest and weakest of many."""
    if len(messages) <= CHART_MESSAGES_TOP + CHART_MESSAGES_BOTTOM + 4:
        return list(messages)
    return [*messages[:CHART_MESSAGES_TOP], *messages[-CHART_MESSAGES_BOTTOM:]]


def _with_issues(
    labels: Mapping[str, str], rows: Sequence[Row], issues: Mapping[str, str]
) -> dict[str, str]:
    """Labels with the issue after an id that has no title, where there are several."""
    of_rows = {
        row["message_id"]: row.get("issue") or issues.get(row["message_id"], "")
        for row in rows
    }
    if len({row.get("issue") for row in rows}) < 2:
        return dict(labels)
    return {
        name: f"{label} · {of_rows[name]}" if label == name and of_rows[name] else label
        for name, label in labels.items()
    }


LINES_OF_LABEL = "split(datum.label, '\\n')"
"""An axis's label of several lines, from one with line breaks (Vega's expression)."""


def axis_of_lines() -> alt.Axis:
    """An upright axis whose labels may have two lines, either side of their tick."""
    two_lines = {"test": "indexof(datum.label, '\\n') >= 0", "value": "bottom"}
    return alt.Axis(
        labelExpr=LINES_OF_LABEL,
        labelBaseline={"condition": two_lines, "value": "middle"},
    )


def _messages_chart(
    result: Row, unit: float, issues: Mapping[str, str], titles: Mapping[str, str]
) -> Figure | None:
    chosen = extremes(best_first(result))
    if not chosen:
        return None
    plain = message_labels([row["message_id"] for row in chosen], titles)
    labels = _with_issues(plain, chosen, issues)
    rows = [
        {
            "message": labels[row["message_id"]],
            "id": row["message_id"],
            "estimate": kind,
            **_span_row(as_span(row[key], unit)),
        }
        for row in chosen
        for kind, key in (("corrected for luck", "shrunken"), ("as measured", "effect"))
    ]
    kinds = ["corrected for luck", "as measured"]
    base = on_rows(rows).encode(
        x=_points_axis("effect, points"),
        y=alt.Y("message:N", sort=list(labels.values()), title=None,
                scale=alt.Scale(padding=0.3), axis=axis_of_lines()),
        yOffset=alt.YOffset("estimate:N", sort=kinds),
        color=alt.Color(
            "estimate:N",
            scale=alt.Scale(domain=kinds, range=[BLUE, GREY]),
            legend=alt.Legend(columns=1),
        ),
        tooltip=[
            alt.Tooltip(f"{field}:N") for field in ("message", "id", "estimate", "text")
        ],
    )  # fmt: skip
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q"), x2="high:Q")
    dots = base.mark_point(size=55, opacity=1, filled=True).encode(
        shape=alt.Shape("estimate:N", scale=alt.Scale(domain=kinds,
                        range=["circle", "diamond"])),
    )  # fmt: skip
    return _layers(_zero(), bars, dots).properties(
        height=17 * len(rows), title="Effect of each message"
    )


def heat_map_cells(result: Row) -> list[Row]:
    """The cells that may be shown and fit into the heat map."""
    best = [row["message_id"] for row in best_first(result)[:HEAT_MAP_MESSAGES]]
    cells = [
        cell
        for cell in large_cells(result["segments"], "n")
        if cell["message_id"] in best
    ]
    largest = sorted(cells, key=lambda cell: -cell["n"])
    groups = list(dict.fromkeys(cell["segment"] for cell in largest))
    return [cell for cell in cells if cell["segment"] in groups[:HEAT_MAP_GROUPS]]


def _group_order(name: str) -> str:
    """Groups by name, but "under 35" before "35-49"."""
    return name.replace("under ", "0")


def _in_order(rows: Sequence[Row]) -> list[str]:
    return sorted({row["segment"] for row in rows}, key=_group_order)


def _segments_chart(
    result: Row, unit: float, titles: Mapping[str, str]
) -> Figure | None:
    cells = heat_map_cells(result)
    if not cells:
        return None
    ids = [row["message_id"] for row in best_first(result)[:HEAT_MAP_MESSAGES]]
    labels = message_labels(ids, titles)
    best = list(labels.values())
    rows = [_heat_map_row(cell, unit, labels) for cell in cells]
    slanted = len({row["message"] for row in rows}) > 2
    strongest = max((abs(row["value"]) for row in rows if row["decides"]), default=1)
    base = on_rows(rows).encode(
        x=alt.X(
            "message:N", sort=best, title=None, axis=_column_labels(slanted=slanted)
        ),
        y=alt.Y("segment:N", sort=_in_order(rows), title=None),
        tooltip=[
            alt.Tooltip(f"{f}:N")
            for f in ("message", "id", "segment", "effect", "range", "people")
        ],
    )
    colour = alt.Color(
        "value:Q",
        scale=alt.Scale(
            domain=[-strongest, 0, strongest], range=["#b04a06", "#f7f7f7", "#0b66a8"]
        ),
        legend=alt.Legend(title="points", orient="bottom", format=".1~f", tickCount=5),
    )
    decides = alt.datum.decides
    fill = alt.when(decides).then(colour).otherwise(alt.value(CROSSES_ZERO))
    deep = f"datum.decides && abs(datum.value) > {0.7 * strongest}"
    ink = (
        alt.when(deep).then(alt.value("white"))
        .when(decides).then(alt.value(CELL_INK)).otherwise(alt.value(INK))
    )  # fmt: skip
    return _layers(
        base.mark_rect(stroke="white", strokeWidth=2).encode(color=fill),
        base.mark_text(dy=-6, fontSize=12, fontWeight=600).encode(
            text="effect:N", color=ink
        ),
        base.mark_text(dy=8, fontSize=10).encode(text="range:N", color=ink),
    ).properties(
        height=34 * len({row["segment"] for row in rows}),
        title="Effect of each message by group, points",
        # slanted column names need room at the right
        padding={"left": 5, "top": 5, "bottom": 5, "right": 45 if slanted else 5},
    )


def _column_labels(*, slanted: bool) -> alt.Axis:
    angle = -30 if slanted else 0
    return alt.Axis(
        orient="top", labelAngle=angle, labelLimit=140, domain=False, ticks=False,
        labelExpr=LINES_OF_LABEL,
    )  # fmt: skip


def _heat_map_row(cell: Row, unit: float, labels: Mapping[str, str]) -> dict[str, Any]:
    span = as_span(cell["effect"], unit)
    largest = max(map(abs, span))
    decimals = 0 if largest >= 10 else 1 if largest >= 1 else 2  # a cell is narrow
    low, high = number_text(span.low, decimals), number_text(span.high, decimals)
    return {
        "message": labels[cell["message_id"]],
        "id": cell["message_id"],
        "segment": cell["segment"],
        "value": span.value,
        "decides": span.decides,
        "effect": number_text(span.value, decimals, sign=True),
        "range": f"{low} to {high}",
        "people": people_text(cell["n"]),
    }


def _curve_chart(result: Row, unit: float, budget_usd: float) -> Figure | None:
    rows = [
        {
            "policy": POLICIES[point["policy"]],
            "spend": float(point["spend_per_voter_usd"]),
            **_span_row(as_span({**point, "value": point["gain"]}, unit)),
        }
        for point in result["curve"]
        if POLICIES.get(point["policy"]) in CURVE_STYLE
    ]
    if not rows:
        return None
    return _layers(_zero("y"), *_curves(rows), *_budget_mark(budget_usd)).properties(
        height=320, title="Gain for the money"
    )


def _curves(rows: Sequence[Row]) -> list[alt.Chart]:
    present = [name for name in CURVE_STYLE if any(r["policy"] == name for r in rows)]
    colours = [CURVE_STYLE[name][0] for name in present]
    dashes = [CURVE_STYLE[name][1] for name in present]
    base = on_rows(rows).encode(
        x=alt.X("spend:Q", title="spend per voter, USD", scale=alt.Scale(nice=False),
                axis=alt.Axis(format="$,.4~g", tickCount=6, grid=False)),
        y=alt.Y("value:Q", title="gain, points per voter"),
    )  # fmt: skip
    bands = [_band(rows, name) for name in present if name in BANDED]
    legend = alt.Legend(columns=2, symbolType="stroke", symbolSize=500)
    lines = base.mark_line(strokeWidth=2.5).encode(
        color=alt.Color(
            "policy:N",
            scale=alt.Scale(domain=present, range=colours),
            legend=legend,
        ),
        strokeDash=alt.StrokeDash(
            "policy:N", scale=alt.Scale(domain=present, range=dashes)
        ),
    )
    hover = base.mark_point(size=140, opacity=0).encode(
        tooltip=[
            alt.Tooltip("policy:N"),
            alt.Tooltip("spend:Q", format="$,.2f"),
            alt.Tooltip("text:N", title="gain"),
        ]
    )
    return [*bands, lines, hover]


def _band(rows: Sequence[Row], policy: str) -> alt.Chart:
    band = on_rows(row for row in rows if row["policy"] == policy)
    colour = CURVE_STYLE[policy][0]
    ends = {"y": alt.Y("low:Q", title="gain, points per voter"), "y2": "high:Q"}
    area: alt.Chart = band.mark_area(opacity=0.13, color=colour).encode(
        x="spend:Q", **ends
    )
    return area


def _budget_mark(budget_usd: float) -> list[alt.Chart]:
    words = f"budget: {usd_text(budget_usd)} a voter"
    at = on_rows([{"spend": float(budget_usd), "words": words}]).encode(x="spend:Q")
    return [
        at.mark_rule(color=INK, strokeDash=[4, 3]),
        at.mark_text(align="left", dx=6, fontSize=12, color=INK).encode(
            y=alt.value(10), text="words:N"
        ),
    ]


def _calibration_groups(result: Row) -> list[Row]:
    groups = large_cells(result["calibration"]["groups"], "n")
    pooled = [group for group in groups if group["message_id"] == "all"]
    return pooled or groups


def _calibration_chart(result: Row, unit: float) -> Figure | None:
    rows = [
        {
            "predicted": group["predicted"] / unit,
            "message": group["message_id"],
            **_span_row(as_span(group["realised"], unit)),
        }
        for group in _calibration_groups(result)
    ]
    if not rows:
        return None
    ends = [end for row in rows for end in (row["predicted"], row["value"])]
    line = on_rows([{"at": float(end)} for end in (min(ends), max(ends))])
    base = on_rows(rows).encode(
        x=alt.X("predicted:Q", title="predicted effect, points",
                scale=alt.Scale(zero=False, padding=20), axis=alt.Axis(tickCount=5)),
        y=alt.Y("value:Q", title="measured effect, points",
                scale=alt.Scale(zero=False, padding=12)),
        tooltip=[alt.Tooltip("predicted:Q", format="+.2f"),
                 alt.Tooltip("text:N", title="measured")],
    )  # fmt: skip
    return _layers(
        line.mark_line(color=GREY, strokeDash=[5, 4]).encode(x="at:Q", y="at:Q"),
        base.mark_rule(color=BLUE, strokeWidth=2).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_circle(color=BLUE, size=80, opacity=1),
    ).properties(height=320, title="Predicted and measured effect")


RELIABLE = {"turnout": ("turnout", VERMILLION), "support": ("support", BLUE)}
"""Outcomes of the reliability plot, with their names for people and colours."""


def _reliability_chart(result: Row) -> Figure | None:
    reliability = result.get("reliability") or {}
    rows = [
        {
            "outcome": RELIABLE[outcome][0],
            "predicted": 100 * group["predicted"],
            **_span_row(as_span(group["observed"], 0.01)),
        }
        for outcome in RELIABLE
        if outcome in reliability
        for group in large_cells(reliability[outcome]["groups"], "n")
    ]
    if not rows:
        return None
    labels_and_colours = [
        RELIABLE[outcome] for outcome in RELIABLE if outcome in reliability
    ]
    ends = [end for row in rows for end in (row["predicted"], row["value"])]
    line = on_rows([{"at": float(end)} for end in (min(ends), max(ends))])
    base = on_rows(rows).encode(
        x=alt.X("predicted:Q", title="predicted, per cent",
                scale=alt.Scale(zero=False, padding=20), axis=alt.Axis(tickCount=5)),
        y=alt.Y("value:Q", title="observed, per cent",
                scale=alt.Scale(zero=False, padding=12)),
        color=alt.Color("outcome:N", scale=alt.Scale(
            domain=[label for label, _ in labels_and_colours],
            range=[colour for _, colour in labels_and_colours])),
        tooltip=[alt.Tooltip("outcome:N"), alt.Tooltip("predicted:Q", format=".1f"),
                 alt.Tooltip("short:N", title="observed")],
    )  # fmt: skip
    return _layers(
        line.mark_line(color=GREY, strokeDash=[5, 4]).encode(x="at:Q", y="at:Q"),
        base.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2="high:Q"),
        base.mark_circle(size=80, opacity=1),
    ).properties(height=320, title="Predicted and observed turnout and support")


def _schedule_chart(contacts_by_day: Iterable[ContactsOfDay]) -> Figure | None:
    large_rows = sorted(
        (row for row in contacts_by_day if row.n >= SMALLEST_CELL),
        key=lambda row: row.send_on,
    )
    if not large_rows:
        return None
    days = [f"{pd.Timestamp(row.send_on):%-d %b}" for row in large_rows]
    labelled = [
        {"day": day, "channel": row.channel, "contacts": row.n}
        for day, row in zip(days, large_rows, strict=True)
    ]
    bars: alt.Chart = on_rows(labelled).mark_bar().encode(
        x=alt.X("day:O", sort=list(dict.fromkeys(days)), title=None,
                axis=alt.Axis(labelAngle=0, labelOverlap=True)),
        y=alt.Y("contacts:Q", title="contacts", axis=alt.Axis(tickCount=5)),
        color=alt.Color("channel:N", scale=alt.Scale(range=CHANNEL_COLOURS)),
        tooltip=["day:N", "channel:N", alt.Tooltip("contacts:Q", format=",")],
    )  # fmt: skip
    return bars.properties(height=220, title="Contacts by day")
