"""Section of the report: sample ratios of all tests by week."""

from collections.abc import Sequence

from hustings.experiments.report.markup import (
    Html,
    html_section,
    html_table,
    paragraph,
)
from hustings.experiments.results import WeekRatio


def ratios_section(weeks: Sequence[WeekRatio]) -> Html:
    """Whether as many voters got each message as the designs say, week by week.

    Args:
        weeks: The earliest first.
    """
    if not weeks:
        return Html("")
    flagged = [week.week for week in weeks if week.flagged]
    sentence = (
        "In every week the tests keep their sample ratios as well as chance allows."
        if not flagged
        else f"In the week of {', '.join(flagged)} more tests miss their sample ratios "
        "than chance allows: find out what went wrong before trusting them."
    )
    rows = [
        (w.week, f"{w.n_tests:,}", f"{w.n_failing:,}", f"{w.p_value:.2g}")
        for w in weeks
    ]
    header = ["Week of", "Blocks checked", "Blocks that fail", "Chance of as many"]
    return html_section(
        "ratios",
        "Sample ratios by week",
        paragraph(sentence),
        html_table("Checks of the draw by week", header, rows),
    )
