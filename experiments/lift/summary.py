"""What was measured, in words for staff, and as a table."""

from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.lift.measured import MeasuredLift, Row
from hustings.training.estimators.metrics import Interval

Json = dict[str, Any]

MULTIPLICITY = (
    "Claims: e-BH over all rows of an estimand (at most 5 % of the claims false on "
    "average, at any look, however rows depend on each other); their intervals are "
    "e-BY. `always` holds at all daily looks of one row together, `once` at one."
)


def table(found: MeasuredLift) -> pd.DataFrame:
    """One row per measured lift, in outcome units."""
    return pd.DataFrame([_flat(row) for row in found.rows])


def _flat(row: Row) -> Json:
    told: Json = {
        name: getattr(row, name)
        for name in ("estimand", "message_id", "channel", "segment", "n_sent",
                     "n_compared", "claimed", "predicted")
    }  # fmt: skip
    told["lift"], told["se"] = row.once.value, row.once.se
    given = {
        "once": row.once, "always": row.always, "claim": row.claimed_interval,
        "shrunken": row.shrunken,
    }  # fmt: skip
    for name, interval in given.items():
        told[f"{name}_low"] = np.nan if interval is None else interval.low
        told[f"{name}_high"] = np.nan if interval is None else interval.high
    told["shrunken"] = row.shrunken.value
    return told


def as_json(found: MeasuredLift, *, per_point: float = 1.0) -> Json:
    """All of it, for a program; what is not finite is null."""
    told: Json = {
        "as_of": str(found.as_of.date()),
        "sentences": sentences(found, per_point=per_point),
        "trusted": found.trusted,
        "n_decided": found.n_decided,
        "n_due": found.n_due,
        "n_in": found.n_in,
        "n_repeats_left_out": found.n_repeats,
        "information": found.information,
        "multiplicity": MULTIPLICITY,
        "sample_ratio": found.ratio._asdict(),
        "attrition_p": found.attrition_p,
        "gained": _interval(found.gained),
        "calibration": None,
        "surrogate": None,
        "repeats": None,
        "reached": None,
        "rows": table(found).to_dict("records"),
    }
    if found.calibration is not None:
        told["calibration"] = _intervals(found.calibration._asdict())
    if found.link is not None:
        told["surrogate"] = {
            **_intervals(found.link._asdict()),
            "converted": _interval(found.converted),
        }
    if found.repeats is not None:
        told["repeats"] = _intervals(found.repeats._asdict())
    if found.reached is not None:
        told["reached"] = _intervals(found.reached._asdict())
    plain: Json = _finite(told)
    return plain


def _intervals(values: Json) -> Json:
    return {
        k: _interval(v) if isinstance(v, Interval) else v for k, v in values.items()
    }


def _interval(found: Interval | None) -> Json | None:
    return None if found is None else found.as_dict()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return value.item() if isinstance(value, np.generic) else value


def sentences(found: MeasuredLift, *, per_point: float = 1.0) -> list[str]:
    """What staff may conclude, and what nobody can know yet.

    Args:
        found: What was measured.
        per_point: Outcome units of one point.
    """
    told = _alarms(found)
    late = found.n_decided - found.n_due
    share = 100 * late / max(found.n_decided, 1)
    told.append(
        f"{found.n_decided:,} voters are decided (those held out among them); the "
        f"outcome is in for {found.n_in:,}."
        + (
            f" For {late:,} ({share:.0f} %) it is not due yet: what the plan did to "
            "them cannot be known." if late else ""
        )
    )  # fmt: skip
    missing = found.n_due - found.n_in
    if missing:
        stand = "; others stand for them" if found.n_in else ""
        told.append(f"{missing:,} outcomes are due and missing{stand}.")
    told += _lifts(found, per_point)
    told += _early(found, per_point)
    if found.n_repeats:
        told.append(
            f"{found.n_repeats:,} later decisions of the same voters are not counted "
            "apart: a lift is that of the first, with all that followed."
        )
    return told


def _alarms(found: MeasuredLift) -> list[str]:
    told = []
    if found.ratio.alarm:
        days = ", ".join(found.ratio.days) or "all days together"
        told.append(
            "STOP: holdout, plan and exploration are not in the declared shares "
            f"({days}; p = {found.ratio.overall_p:.1g} overall). The draw or the log "
            "is broken, and no lift below can be trusted until it is mended."
        )
    elif not found.trusted:
        told.append(
            "STOP: outcomes are missing at different rates among the planned and the "
            f"held out (p = {found.attrition_p:.1g}). Lifts below may be due to that."
        )
    return told


def _lifts(found: MeasuredLift, per_point: float) -> list[str]:
    if found.overall is None:
        return ["Too few outcomes are in, planned or held out, to say what was gained."]
    row = found.overall
    verdict = (
        "More than chance."
        if row.always.low > 0
        else "Less than nothing was gained."
        if row.always.high < 0
        else "That may still be chance."
    )
    told = [
        f"The plan brought {points(row.always, per_point)} per voter it chose, against "
        f"those held out ({row.n_sent:,} and {row.n_compared:,}); the interval holds "
        f"at every look. {verdict}"
    ]
    claims = [r for r in found.rows if r.claimed and r.message_id]
    looked_at = [r for r in found.rows if r.message_id]
    told.append(
        f"Of {len(looked_at)} lifts by message and segment, {len(claims)} can be "
        "claimed; at most one claim in twenty is expected to be false."
    )
    if found.calibration is not None:
        told.append(_calibrated(found, per_point))
    if found.reached is not None:
        share = 100 * found.reached.contacted.value
        told.append(
            f"{share:.1f} % of those assigned were reached; for them the lift is "
            f"{points(found.reached.reached, per_point)}, for one look."
        )
    return told


def _calibrated(found: MeasuredLift, per_point: float) -> str:
    assert found.calibration is not None
    said = found.calibration
    start = f"Predicted {said.predicted / per_point:+.2f} points; measured less that: "
    told = start + points(said.less, per_point) + "."
    if said.drifted:
        told += " The model no longer says what happens: train anew before planning on."
    if np.isfinite(said.slope.low):
        told += (
            f" Where it predicts one point more, {said.slope.value:.2f} more are found "
            f"({said.slope.low:.2f} to {said.slope.high:.2f})."
        )
    return told


def _early(found: MeasuredLift, per_point: float) -> list[str]:
    if found.link is None:
        return []
    if found.converted is None:
        return [
            "The early outcome is shown in its own units and not converted: "
            f"{found.link.why}."
        ]
    return [
        f"By the early outcome the lift will be {points(found.converted, per_point)} "
        f"({found.link.why})."
    ]


def points(interval: Interval, per_point: float) -> str:
    """An interval in points: "+1.20 points (+0.30 to +2.10)".

    >>> points(Interval(0.012, 0.003, 0.021), 0.01)
    '+1.20 points (+0.30 to +2.10)'
    """
    value, low, high = (
        x / per_point for x in (interval.value, interval.low, interval.high)
    )
    return f"{value:+.2f} points ({low:+.2f} to {high:+.2f})"
