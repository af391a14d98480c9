"""The report's block on places that get a channel whole; no row is about a person."""

from hustings.experiments.report.markup import Html, html_block, html_table, paragraph
from hustings.experiments.report.words import (
    NOT_SHOWN,
    Row,
    is_small,
    number_text,
    people_text,
    usd_text,
)

TABLE_ROWS = 40


def whole_places_block(places: Row | None, unit: float) -> list[Html]:
    """Which places get what whole; empty where nothing is offered to places.

    Args:
        places: `column`, `n_places` that could be taken, `n_held_out` of them, `gap`,
            `expected` (by channel `lift_of` and `lift_share`) and `rows`, a taken place
            each.
        unit: Outcome units of a point.
    """
    if places is None:
        return []
    rows = sorted(places["rows"], key=lambda row: (-row["lift"], row["place"]))
    header = ["Place", "Channel", "Message", "Voters", "Cost", "Mean predicted effect"]
    shown = [
        (row["place"], row["channel"], row["message_id"], people_text(row["n_voters"]),
         usd_text(row["cost_usd"]), _mean_effect(row, unit))
        for row in rows[:TABLE_ROWS]
    ]  # fmt: skip
    table = html_table("Places taken whole", header, shown, words=3)
    more = len(rows) - len(shown)
    note = paragraph(f"and {more} more places.", "quiet") if more > 0 else Html("")
    return [html_block("Whole places", paragraph(_in_words(places)), table, note)]


def _in_words(places: Row) -> str:
    usd = sum(float(row["cost_usd"]) for row in places["rows"])
    expected = "; ".join(
        f"{name}: {share['lift_share']:g} of the lift by {share['lift_of']}"
        for name, share in places["expected"].items()
    )
    taken, held = number_text(len(places["rows"])), number_text(places["n_held_out"])
    return (
        f"{taken} of {number_text(places['n_places'])} places ({places['column']}) get "
        f"a channel whole, everybody in them, for {usd_text(usd)} of the budget; "
        f"{held} are held out at random. Voters of a place with one get nothing of "
        "their own. What such a channel does was not measured, it is declared "
        f"({expected})."
    )


def _mean_effect(row: Row, unit: float) -> str:
    if is_small(row["n_voters"]):
        return NOT_SHOWN
    return f"{float(row['lift']) / unit / float(row['n_voters']):+.2f}"
