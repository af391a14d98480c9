"""What tables say that is no fault of a row and that a person has to know.

Values that look like a survey's code for no answer, where nobody declared the scale;
arms of the designs of which nothing came.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hustings.features.tables import CONTROL

FAR_OUT = 10.0
"""A value is isolated if so many times the spread of the others lies between it and
them."""
MIN_REPEATED = 2
MOST_ISOLATED = 0.2
"""More rows than this share are no codes: they are what was measured."""
_ARM = ["experiment_id", "message_id", "channel"]


def isolated_values(value: pd.Series) -> dict[float, int]:
    """Values far beyond all others that several rows have, with their number of rows.

    The spread is that between the quartiles, or where half of the rows are alike that
    of nine in ten.

    Args:
        value: Of an outcome whose scale is unknown.

    >>> isolated_values(pd.Series([1.0, 2, 3, 4, 5] * 8 + [99.0, 99, 998]))
    {99.0: 2}
    """
    counts = value.dropna().value_counts().sort_index()
    if len(counts) < 2:
        return {}
    numbers = counts.index.to_numpy(dtype=np.float64)
    low, high = value.quantile([0.25, 0.75])
    if low == high:
        low, high = value.quantile([0.05, 0.95])
    gap = FAR_OUT * float(high - low)
    if gap <= 0:
        return {}
    steps = np.diff(numbers) > gap
    below, above = (numbers[:-1] < low) & steps, (numbers[1:] > high) & steps
    isolated = np.zeros(len(numbers), dtype=bool)
    if below.any():
        isolated[: int(np.flatnonzero(below).max()) + 1] = True
    if above.any():
        isolated[int(np.flatnonzero(above).min()) + 1 :] = True
    rows = counts.to_numpy()
    if rows[isolated].sum() > MOST_ISOLATED * rows.sum():
        return {}
    repeated = isolated & (rows >= MIN_REPEATED)
    return {
        float(v): int(n) for v, n in zip(numbers[repeated], rows[repeated], strict=True)
    }


def isolated_notes(
    responses: pd.DataFrame, scales: Mapping[str, tuple[float, float] | None]
) -> list[str]:
    """A sentence for every isolated value of an outcome whose scale is unknown.

    Args:
        responses: RESPONSES.
        scales: Outcome → its scale, where one is known.
    """
    notes = []
    for outcome, rows in responses.groupby("outcome", sort=True):
        if scales.get(str(outcome)) is None:
            notes += [
                f"responses: {n:,} rows have {outcome} = {value:g}, far beyond all "
                "others: if that is a code for no answer, declare [outcome] scale = "
                "[low, high]"
                for value, n in isolated_values(rows["value"]).items()
            ]
    return notes


def bare_arms(
    designs: pd.DataFrame,
    deliveries: pd.DataFrame,
    responses: pd.DataFrame,
    *,
    outcome: str,
    absent: str,
) -> list[str]:
    """A sentence for every arm of the designs without deliveries or responses.

    Args:
        designs: DESIGNS.
        deliveries: DELIVERIES.
        responses: RESPONSES.
        outcome: The outcome that the campaign asks about.
        absent: What a delivery without a response means: "zero" or "missing".
    """
    key = ["voter_id", "experiment_id", "plan_id"]
    answers = responses.loc[responses["outcome"] == outcome, key].drop_duplicates()
    answered = deliveries.merge(answers, on=key)
    n_sent, n_answered = (t.value_counts(_ARM) for t in (deliveries, answered))
    notes = []
    offered = designs[designs["probability"] > 0]
    for arm in offered[_ARM].drop_duplicates().itertuples(index=False):
        experiment, message, channel = (str(part) for part in arm)
        arm_name = message if message == CONTROL else f"{message} by {channel}"
        where = f"designs: experiment {experiment}, {arm_name}"
        sent = int(n_sent.get(tuple(arm), 0))
        if sent == 0:
            notes.append(f"{where}: no deliveries, so nothing can be said of it")
        elif int(n_answered.get(tuple(arm), 0)) == 0:
            meaning = (
                "each counts as 0, as [outcome] absent declares"
                if absent == "zero"
                else "nothing can be said of it"
            )
            notes.append(f"{where}: {sent:,} deliveries and no responses; {meaning}")
    return notes
