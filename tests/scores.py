"""Scores as a row for every voter and message, for tests that ask about one message."""

import pandas as pd

from hustings.features.tables import SCORES, check
from hustings.serving.score import LIFT, RESPONSE, SE

Z95 = 1.959964


def by_message(scores: pd.DataFrame) -> pd.DataFrame:
    """SCORES of an outcome that is better when higher, from a row for every voter."""
    messages = [c.removeprefix(LIFT) for c in scores if str(c).startswith(LIFT)]
    parts = []
    for message in messages:
        lift, se, response = (
            scores[prefix + message].astype(float) for prefix in (LIFT, SE, RESPONSE)
        )
        parts.append(
            pd.DataFrame(
                {
                    "voter_id": scores["voter_id"], "message_id": message,
                    "lift": lift, "lift_low": lift - Z95 * se,
                    "lift_high": lift + Z95 * se, "response": response,
                    "baseline": response - lift,
                }
            )
        )  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    order = rows.groupby("message_id", sort=False).cumcount()
    return check(SCORES, rows.iloc[order.argsort(kind="stable")].reset_index(drop=True))
