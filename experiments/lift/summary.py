"""Measured lift in words for staff, and as a table."""

from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.lift.measured import NOT_VOTED, MeasuredLift, Row
from hustings.experiments.results import VERDICT_WORDS, LiftSummary, lift_verdict
from hustings.experiments.stages.context import rounded
from hustings.features.stored import plain_json
from hustings.features.tables import SMALLEST_CELL
from hustings.training.estimators.compliance import Compliance
from hustings.training.estimators.metrics import Interval

MULTIPLICITY = (
    "Claims: e-BH over all rows of an estimand (at most 5 % of the claims false on "
    "average, at any look, however rows depend on each other); their intervals are "
    "e-BY. `always` holds at all daily looks of one row together, `once` at one."
)


def table(measured: MeasuredLift) -> pd.DataFrame:
    """One row per measured lift, in outcome units."""
    return pd.DataFrame([_flat(row) for row in measured.rows])


def _flat(row: Row) -> dict[str, str | int | bool | float]:
    flat: dict[str, str | int | bool | float] = {
        name: getattr(row, name)
        for name in ("estimand", "message_id", "channel", "segment", "n_sent",
                     "n_compared", "claimed", "predicted")
    }  # fmt: skip
    flat["lift"], flat["se"] = row.fixed_sample.value, row.fixed_sample.se
    given = {
        "once": row.fixed_sample,
        "always": row.anytime_valid,
        "claim": row.claimed_interval,
        "shrunken": row.shrunken,
    }
    for name, interval in given.items():
        flat[f"{name}_low"] = np.nan if interval is None else interval.low
        flat[f"{name}_high"] = np.nan if interval is None else interval.high
    flat["shrunken"] = row.shrunken.value
    return flat


def summary_of(measured: MeasuredLift, *, per_point: float) -> LiftSummary:
    """All of it, for a program: rounded, and None for what is not finite.

    Args:
        measured: What was measured.
        per_point: Outcome units of one point.
    """
    link = measured.link
    stated = {
        **vars(measured),
        "as_of": str(measured.as_of.date()),
        "sentences": sentences(measured, per_point=per_point),
        "trusted": measured.trusted,
        "n_repeats_left_out": measured.n_repeats,
        "multiplicity": MULTIPLICITY,
        "sample_ratio": measured.ratio,
        "surrogate": link and {**link._asdict(), "converted": measured.converted},
        "rows": [_flat(row) for row in measured.rows],
    }
    return LiftSummary.from_json(rounded(_finite(plain_json(stated))))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def sentences(measured: MeasuredLift, *, per_point: float) -> list[str]:
    """Conclusions for staff, and what is not known yet.

    Args:
        measured: What was measured.
        per_point: Outcome units of one point.
    """
    lines = _alarms(measured)
    late = measured.n_decided - measured.n_due
    share = 100 * late / max(measured.n_decided, 1)
    lines.append(
        f"{_n(measured.n_decided)} voters are decided (those held out among them); "
        f"the outcome is in for {_n(measured.n_in)}."
        + (
            f" For {_n(late)} ({share:.0f} %) it is not due yet: what the plan did "
            "to them cannot be known." if late else ""
        )
    )  # fmt: skip
    missing = measured.n_due - measured.n_in
    if missing:
        stand = ""
        if measured.n_waiting:
            stand = (
                f"; plans with {_n(measured.n_waiting)} voters, of whom hardly "
                "anybody has answered yet, wait for more"
            )
        elif measured.n_in:
            stand = "; voters who answered stand for them"
        lines.append(f"{_n(missing)} outcomes are due and missing{stand}.")
    lines += _lifts(measured, per_point)
    lines += _early(measured, per_point)
    if measured.n_repeats:
        lines.append(
            f"{_n(measured.n_repeats)} later decisions of the same voters are not "
            "counted apart: a lift is that of the first, with all that followed."
        )
    return lines


def _n(n: int) -> str:
    """A count of people, hidden where it lies below the privacy floor."""
    return f"fewer than {SMALLEST_CELL}" if 0 < n < SMALLEST_CELL else f"{n:,}"


def _alarms(measured: MeasuredLift) -> list[str]:
    lines = []
    if measured.ratio.alarm:
        plans = ", ".join(measured.ratio.plans) or "all plans together"
        lines.append(
            "STOP: holdout, plan and exploration are not in the declared shares "
            f"({plans}; p = {measured.ratio.overall_p:.1g} overall). The draw or the "
            "log is broken, and no lift below can be trusted until it is mended."
        )
    elif not measured.trusted:
        lines.append(
            "STOP: outcomes are missing at different rates among the planned and the "
            f"held out (p = {measured.attrition_p:.1g}). Lifts below may be due to it."
        )
    return lines


def _lifts(measured: MeasuredLift, per_point: float) -> list[str]:
    if measured.overall is None:
        return ["Too few outcomes are in, planned or held out, to say what was gained."]
    row = measured.overall
    always = row.anytime_valid
    verdict = VERDICT_WORDS[lift_verdict(always.low, always.high)]
    interval = points(row.anytime_valid, per_point)
    lines = [
        f"The plan brought {interval} per voter it chose, whether "
        f"reached or not, against those held out ({_n(row.n_sent)} and "
        f"{_n(row.n_compared)}), each day weighed by its noise; the interval holds "
        f"at every look. {verdict}"
    ]
    if measured.not_voted is not None:
        lines.append(_of_not_voted(measured.not_voted, measured, per_point))
    looked_at = [r for r in measured.rows if r.message_id and r.estimand != NOT_VOTED]
    claims = [r for r in looked_at if r.claimed]
    lines.append(
        f"Of {len(looked_at)} lifts of a message, over all or by segment, "
        f"{len(claims)} can be claimed; at most one claim in twenty is expected to be "
        "false."
    )
    if measured.calibration is not None:
        lines.append(_calibrated(measured, per_point))
    if measured.reached is not None:
        lines.append(_of_reached(measured.reached, per_point))
    return lines


def _of_not_voted(row: Row, measured: MeasuredLift, per_point: float) -> str:
    interval = points(row.anytime_valid, per_point)
    return (
        f"{measured.n_voted_before:,} of the decided had voted when they were "
        f"assigned. Among those who had not, held out alike ({_n(row.n_sent)} and "
        f"{_n(row.n_compared)}), it brought {interval} per voter; whoever voted "
        "later stays in."
    )


def _of_reached(reached: Compliance, per_point: float) -> str:
    share = 100 * reached.contacted.value
    start = (
        f"{share:.1f} % of those assigned were reached, where channels reported back; "
    )
    if not np.isfinite(reached.reached.low):
        return f"{start}too few to say what reaching a voter does."
    return (
        f"{start}for them the lift is {points(reached.reached, per_point)}, for one "
        f"look; for all assigned there it is {points(reached.assigned, per_point)}."
    )


def _calibrated(measured: MeasuredLift, per_point: float) -> str:
    assert measured.calibration is not None
    said = measured.calibration
    start = f"Predicted {said.predicted / per_point:+.2f} points; measured less that: "
    text = start + points(said.less, per_point) + "."
    if said.drifted:
        text += " The model no longer says what happens: train anew before planning on."
    if np.isfinite(said.slope.low):
        text += (
            f" Where it predicts one point more, {said.slope.value:.2f} more are found "
            f"({said.slope.low:.2f} to {said.slope.high:.2f})."
        )
    return text


def _early(measured: MeasuredLift, per_point: float) -> list[str]:
    if measured.link is None:
        return []
    if measured.converted is None:
        return [
            "The early outcome is shown in its own units and not converted: "
            f"{measured.link.why}."
        ]
    lift = points(measured.converted, per_point)
    return [f"By the early outcome the lift will be {lift} ({measured.link.why})."]


def points(interval: Interval, per_point: float) -> str:
    """An interval in points: "+1.20 points (+0.30 to +2.10)".

    >>> points(Interval(0.012, 0.003, 0.021), 0.01)
    '+1.20 points (+0.30 to +2.10)'
    """
    value, low, high = (
        x / per_point for x in (interval.value, interval.low, interval.high)
    )
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"
