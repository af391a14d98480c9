"""What others know of messages, as arrays: forecasts, and effects of earlier tests."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints

LEAST_TRUE_SHARE = 0.1
"""Forecasts whose errors explain all of their spread still differ by this share."""
_TEST = ["campaign", "channel", "audience"]


class Forecasts(NamedTuple):
    """Forecasts as predictors: messages × forecasters.

    Attributes:
        forecasters: Names, length K.
        z: Forecast within its campaign in SDs of the forecaster's, drawn towards 0 by
            its own error; 0 where there is none, shape (R, K).
        reliability: Share of its variance that is not its own error; 0 where there is
            no forecast, shape (R, K).
    """

    forecasters: tuple[str, ...]
    z: Floats
    reliability: Floats


class PastTests(NamedTuple):
    """Effects that were estimated in earlier campaigns; axis 0 is the estimate.

    Attributes:
        message: Position among the messages, shape (P,).
        test: Code of campaign, channel and audience together, shape (P,).
        effect: In outcome units, higher is better, shape (P,).
        se: Its standard error, shape (P,).
    """

    message: Ints
    test: Ints
    effect: Floats
    se: Floats


@dataclass(frozen=True)
class PriorEvidence:
    """What others know of messages; axis 0 is the message.

    Attributes:
        ids: Messages of the campaign, then those that only earlier campaigns tested,
            length R.
        issue: Issue of each, length R.
        text: What each says, empty where that is not known, length R.
        forecasts: Of the messages.
        past: Effects in earlier campaigns.
        slope_sd: Prior SD of a forecaster's slope, SDs of the effects per SD of the
            forecasts.
    """

    ids: tuple[str, ...]
    issue: tuple[str, ...]
    text: tuple[str, ...]
    forecasts: Forecasts
    past: PastTests
    slope_sd: float

    def rows(self, messages: tuple[str, ...]) -> Ints:
        """Positions of messages of the campaign, shape (k,).

        Raises:
            KeyError: If a message is not one of them.
        """
        position = {name: k for k, name in enumerate(self.ids)}
        return np.array([position[m] for m in messages], dtype=np.int64)


def prior_evidence(
    messages: pd.DataFrame,
    forecasts: pd.DataFrame,
    past_effects: pd.DataFrame,
    *,
    direction: float,
    slope_sd: float,
) -> PriorEvidence:
    """Join what others know of the messages of a campaign.

    Args:
        messages: MESSAGES table.
        forecasts: FORECASTS table, of these messages or past ones.
        past_effects: PAST_EFFECTS table, effects in the outcome's own direction.
        direction: -1 where the outcome is better when lower, else 1.
        slope_sd: See `PriorEvidence`.
    """
    here = messages["message_id"].tolist()
    earlier = past_effects[~past_effects["message_id"].isin(here)]
    earlier = earlier.drop_duplicates("message_id")
    ids = [*here, *earlier["message_id"]]
    home = ["", *dict.fromkeys(earlier["campaign"])]
    campaign = np.array(
        [0] * len(here) + [1 + home[1:].index(c) for c in earlier["campaign"]],
        dtype=np.int64,
    )
    row = pd.Index(ids)
    return PriorEvidence(
        tuple(ids),
        (*messages["issue"], *earlier["issue"]),
        (*messages["text"], *_texts(earlier)),
        _forecasts(forecasts, row, campaign),
        PastTests(
            row.get_indexer(pd.Index(past_effects["message_id"])).astype(np.int64),
            np.asarray(past_effects.groupby(_TEST).ngroup(), dtype=np.int64),
            direction * past_effects["effect"].to_numpy(dtype=np.float64),
            past_effects["se"].to_numpy(dtype=np.float64),
        ),
        slope_sd,
    )


def _texts(table: pd.DataFrame) -> list[str]:
    if "text" not in table:
        return [""] * len(table)
    return [str(text) for text in table["text"].fillna("")]


def _forecasts(table: pd.DataFrame, row: pd.Index, campaign: Ints) -> Forecasts:
    """Forecasts of messages, standardised by forecaster.

    The mean of a forecaster's points is that of one campaign, since the level of a test
    is its own; the scale is the forecaster's in all campaigns.

    Args:
        table: FORECASTS table.
        row: Ids of the messages, length R.
        campaign: Campaign of every message, shape (R,).
    """
    names = tuple(sorted(set(table["forecaster"])))
    z, reliability = np.zeros((2, len(row), len(names)))
    for k, name in enumerate(names):
        of_name = table[table["forecaster"] == name]
        at = row.get_indexer(pd.Index(of_name["message_id"]))
        off = of_name["points"].to_numpy(dtype=np.float64)
        n_points = np.bincount(campaign[at])
        off = off - (np.bincount(campaign[at], off) / np.maximum(n_points, 1))[
            campaign[at]
        ]  # fmt: skip
        n_free = len(at) - int((n_points > 0).sum())
        variance = float(off @ off) / n_free if n_free else 0.0
        if variance <= 0:
            continue
        error = _squared_errors(of_name)
        true = max(variance - float(error.mean()), LEAST_TRUE_SHARE * variance)
        reliability[at, k] = true / (true + error)
        z[at, k] = reliability[at, k] * off / np.sqrt(true)
    return Forecasts(names, z, reliability)


def _squared_errors(table: pd.DataFrame) -> Floats:
    if "se" not in table:
        return np.zeros(len(table))
    error = table["se"].fillna(0.0).to_numpy(dtype=np.float64)
    return np.asarray(error**2)
