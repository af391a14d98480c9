"""The report's block on places that get a channel whole; no row is about a person."""

from hustings.experiments.report.markup import Html, html_block, html_table, paragraph
from hustings.experiments.report.words import (
    NOT_SHOWN,
    is_small,
    number_text,
    people_text,
    usd_text,
)
from hustings.experiments.results import PlannedPlaces, TakenPlace

TABLE_ROWS = 40


def whole_places_block(places: PlannedPlaces | None, unit: float) -> list[Html]:
    """Which places get what whole; empty where nothing is offered to places.

    Args:
        places: What they get.
        unit: Outcome units of a point.
    """
    if places is None:
        return []
    taken = sorted(places.taken, key=lambda place: (-place.lift, place.place))
    header = ["Place", "Channel", "Message", "Voters", "Cost", "Mean predicted effect"]
    listed_rows = [
        (place.place, place.channel, place.message_id, people_text(place.n_voters),
         usd_text(place.cost_usd), _mean_effect(place, unit))
        for place in taken[:TABLE_ROWS]
    ]  # fmt: skip
    table = html_table("Places taken whole", header, listed_rows, words=3)
    n_more = len(taken) - len(listed_rows)
    note = paragraph(f"and {n_more} more places.", "quiet") if n_more > 0 else Html("")
    return [html_block("Whole places", paragraph(_in_words(places)), table, note)]


def _in_words(places: PlannedPlaces) -> str:
    usd = sum(place.cost_usd for place in places.taken)
    expected = "; ".join(
        f"{name}: {of_channel.lift_share:g} of the lift by {of_channel.lift_of}"
        for name, of_channel in places.expected.items()
    )
    n_taken = number_text(len(places.taken))
    held = (
        f"{number_text(places.n_held_out)} are held out at random"
        if places.n_held_out
        else "the draw holds out none of them, so that no comparison of places will "
        "say what the channel brought"
    )
    return (
        f"{n_taken} of {number_text(places.n_places)} places ({places.column}) get "
        f"a channel whole, everybody in them, for {usd_text(usd)} of the budget; "
        f"{held}. Voters of a place with one get nothing of "
        "their own. What such a channel does was not measured, it is declared "
        f"({expected})."
    )


def _mean_effect(place: TakenPlace, unit: float) -> str:
    if is_small(place.n_voters):
        return NOT_SHOWN
    return f"{place.lift / unit / place.n_voters:+.2f}"
