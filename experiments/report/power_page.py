"""The page of a campaign's power: what each holdout can show, and which to declare."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import altair as alt

from hustings.experiments.report.charts import (
    BLUE,
    GREEN,
    INK,
    VERMILLION,
    Figure,
    on_rows,
    styled,
)
from hustings.experiments.report.markup import (
    Html,
    chart_place,
    escaped,
    folded,
    html_section,
    html_table,
    html_tile,
    joined,
    paragraph,
)
from hustings.experiments.report.page import write_page
from hustings.experiments.report.words import (
    NOT_SHOWN,
    number_text,
    people_text,
    share_text,
    usd_text,
)
from hustings.experiments.results import Detectable, RecommendedHoldout
from hustings.training.measured_lift.power import HoldoutSplit

LOOKS = {
    "one look at the end": ("once", BLUE, [1, 0]),
    "a look every day": ("daily", VERMILLION, [7, 3]),
}
"""Line of the chart → field of a row, colour and dashes."""


@dataclass(frozen=True)
class PowerPage:
    """What the page of the power shows; lifts in outcome units.

    Attributes:
        title: Of the campaign.
        unit: Outcome units of a point.
        believed: Lift that is believed of the best message, at least zero.
        declared_share: Holdout of `[plan]`.
        holdouts: One row for each share, the smallest first.
        recommended: Which of them to declare.
        splits: Shares and days of exploring.
        best: The best of them.
        sentences: What it rests on, and what exploring would bring.
    """

    title: str
    unit: float
    believed: float
    declared_share: float
    holdouts: Sequence[Detectable]
    recommended: RecommendedHoldout
    splits: Sequence[HoldoutSplit]
    best: HoldoutSplit
    sentences: Sequence[str]


def write_power(path: Path, page: PowerPage) -> None:
    """Write the page of the power as one HTML file that needs no network.

    Args:
        path: The file to write.
        page: What it shows.
    """
    write_page(path, title=page.title, kicker="Before spending", body=power_body(page))


def power_body(page: PowerPage) -> Html:
    """The sections of the page, the same in the file and in the web app."""
    return joined([_answer(page), _holdouts(page), _exploring(page)])


def _answer(page: PowerPage) -> Html:
    advice = page.recommended
    css, words = ("yes", "Enough") if advice.is_enough else ("no", "Not enough")
    return Html(
        '<section id="answer" class="answer" aria-label="Recommended holdout">'
        f'<p><span class="badge {css}">{escaped(words)}</span></p>'
        f'<p class="sentence">{escaped(_advice_in_words(advice))}</p>'
        f"{paragraph(f'{advice.why[:1].upper()}{advice.why[1:]}.')}"
        f'<div class="tiles">{joined(_tiles(page))}</div></section>'
    )


def _advice_in_words(advice: RecommendedHoldout) -> str:
    if advice.is_enough:
        return f"Hold out {_percent(advice.share)} of the audience"
    return "No holdout that was compared is enough"


def _tiles(page: PowerPage) -> list[Html]:
    (row,) = [r for r in page.holdouts if r.holdout_share == page.recommended.share]
    believed = _points(page, page.believed)
    return [
        html_tile("Detectable at the end", f"{_points(page, row.once)} points",
                  "seen in 4 of 5 campaigns"),
        html_tile("Lift that is believed", f"{believed} points", "of the best message"),
        html_tile("Held out of the plan", people_text(row.n_compared),
                  f"{people_text(row.n_sent)} are sent"),
        html_tile("Declared now", _percent(page.declared_share), "in [plan]"),
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _points(page: PowerPage, lift: float) -> str:
    return number_text(lift / page.unit, 2)


# --- holdouts compared ---


def _holdouts(page: PowerPage) -> Html:
    rows = [
        (
            Html(f"{_percent(row.holdout_share)}{_marks(page, row)}"),
            _points(page, row.once),
            _points(page, row.daily),
            _points(page, row.by_message),
            share_text(row.power),
            people_text(row.n_compared),
            number_text(row.forgone / page.unit),
            usd_text(row.unspent_usd) if round(row.unspent_usd) > 0 else NOT_SHOWN,
        )
        for row in page.holdouts
    ]
    header = ["Holdout", "Seen at the end", "With daily looks", "Of one message",
              "Believed lift seen", "Held out", "Forgone", "Left over"]  # fmt: skip
    return html_section(
        "holdouts",
        "What each holdout can show",
        paragraph(
            "A lift is detectable that is seen in 4 of 5 campaigns, in points per "
            "voter. A larger holdout shows smaller lifts, until too few are left to "
            "be sent anything; what it forgoes is what the held out would have gained, "
            "less what their money gains among other voters."
        ),
        chart_place(power_figures(page), "power/holdouts",
                    "Detectable lift by the share held out"),
        html_table("Holdouts compared, lifts in points", header, rows),
    )  # fmt: skip


def _marks(page: PowerPage, row: Detectable) -> str:
    marks = ""
    if row.holdout_share == page.recommended.share:
        marks += f' <span class="badge half">{_word_of(page.recommended)}</span>'
    if row.holdout_share == page.declared_share:
        marks += " <small>declared</small>"
    return marks


def _word_of(advice: RecommendedHoldout) -> str:
    return "recommended" if advice.is_enough else "nearest"


def power_figures(page: PowerPage) -> dict[str, Figure]:
    """The chart of the page, `power/holdouts`: detectable lift by share held out."""
    rows = [
        {
            "holdout": 100 * row.holdout_share,
            "lift": getattr(row, name) / page.unit,
            "looks": label,
        }
        for row in page.holdouts
        for label, (name, _, _) in LOOKS.items()
    ]
    base = on_rows(rows).encode(
        x=alt.X("holdout:Q", title="held out, per cent of the audience",
                axis=alt.Axis(grid=False, tickCount=6)),
        y=alt.Y("lift:Q", title="detectable lift, points", scale=alt.Scale(zero=True)),
        tooltip=[alt.Tooltip("holdout:Q"), alt.Tooltip("looks:N"),
                 alt.Tooltip("lift:Q", format=".2f")],
    )  # fmt: skip
    colours = [colour for _, colour, _ in LOOKS.values()]
    dashes = [dash for _, _, dash in LOOKS.values()]
    lines = base.mark_line(strokeWidth=2.5, point=True).encode(
        color=alt.Color("looks:N", scale=alt.Scale(domain=list(LOOKS), range=colours)),
        strokeDash=alt.StrokeDash(
            "looks:N", scale=alt.Scale(domain=list(LOOKS), range=dashes)
        ),
    )
    advice = _percent(page.recommended.share)
    upright = {
        "holdout": 100 * page.recommended.share,
        "label": f"{_word_of(page.recommended)} {advice}",
    }
    level = {
        "lift": page.believed / page.unit,
        "label": f"believed {_points(page, page.believed)}",
    }
    at, believed = on_rows([upright]), on_rows([level])
    at = at.encode(x="holdout:Q")
    believed = believed.encode(y="lift:Q")
    drawn = alt.LayerChart(
        layer=[
            lines,
            at.mark_rule(color=INK, strokeDash=[4, 3]),
            at.mark_text(align="left", dx=6, fontSize=12, color=INK).encode(
                y=alt.value(8), text="label:N"
            ),
            believed.mark_rule(color=GREEN, strokeWidth=2),
            believed.mark_text(
                align="left", dx=4, dy=-8, fontSize=12, color=INK
            ).encode(x=alt.value(0), text="label:N"),
        ]
    )
    title = "Detectable lift by the share held out"
    return {"power/holdouts": styled(drawn.properties(height=280, title=title))}


# --- exploring ---


def _exploring(page: PowerPage) -> Html:
    best = page.best
    rows = [
        (
            _percent(split.epsilon),
            number_text(split.days),
            number_text(split.cost / page.unit),
            number_text(split.learned / page.unit),
            "best" if split == best else "",
        )
        for split in page.splits
    ]
    header = ["Explored", "First days", "Costs, points", "Brings, points", ""]
    return html_section(
        "exploring",
        "What it rests on, and how much to explore",
        *[paragraph(sentence) for sentence in page.sentences],
        folded(
            f"How much to explore: {len(rows)} ways compared",
            html_table("Exploring, by what is believed", header, rows),
        ),
    )
