"""Published tests of many messages each, with forecasts of experts and of GPT-4."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.features.prior_evidence import PriorEvidence, prior_evidence
from hustings.features.tables import FORECASTS, PAST_EFFECTS, check
from hustings.training.learners.forecasts import MessageEstimates

FORECASTERS = ("expert", "gpt4")
SLOPE_SD = 0.3
"""As campaigns have it that do not declare another."""
LEAST_SIGNAL = 0.1
Points = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Megastudy:
    """One outcome of one published test, in SDs of the effects of its messages.

    Attributes:
        family: Tests of the same messages share it.
        name: Data set and outcome.
        estimate: Shape (M,).
        covariance: Shape (M, M).
        points: Forecasts, standardised, of those who made any.
    """

    family: str
    name: str
    estimate: np.ndarray
    covariance: np.ndarray
    points: dict[str, np.ndarray]

    @property
    def ids(self) -> list[str]:
        return [f"{self.name} {k}" for k in range(len(self.estimate))]


def megastudies() -> list[Megastudy]:
    """All of them; the test is skipped where the public data are not there."""
    folder = data_dir() / "message_megastudies"
    if not folder.exists():
        pytest.skip(f"the public data is not there: {folder}; set HUSTINGS_DATA")
    arms = pd.read_parquet(folder / "arms.parquet").fillna({"outcome": ""})
    noise = pd.read_parquet(folder / "covariances.parquet").fillna({"outcome": ""})
    found = []
    for (family, data_set, outcome), rows in arms.groupby(
        ["family", "dataset", "outcome"]
    ):
        rows = rows.sort_values("arm")
        of_set = noise[(noise["dataset"] == data_set) & (noise["outcome"] == outcome)]
        place = pd.Index(rows["arm"])
        i, j = (place.get_indexer(pd.Index(of_set[c])) for c in "ij")
        S = np.zeros((len(rows), len(rows)))
        S[i, j] = S[j, i] = of_set["v"]
        estimate = rows["estimate"].to_numpy(dtype=float)
        variance = estimate.var(ddof=1)
        of_noise = (np.trace(S) - S.mean() * len(S)) / (len(S) - 1)
        sd = np.sqrt(max(variance - of_noise, LEAST_SIGNAL * variance))
        points = {
            name: (given - given.mean()) / given.std()
            for name in FORECASTERS
            if len(given := rows[f"pred_{name}"].dropna().to_numpy()) == len(rows)
        }
        name = f"{data_set} {outcome}".strip()
        found.append(Megastudy(str(family), name, estimate / sd, S / sd**2, points))
    return found


def as_they_are(points: np.ndarray) -> np.ndarray:
    return points


def evidence_for(
    here: Megastudy,
    past: Sequence[Megastudy],
    *,
    forecasters: Collection[str] = FORECASTERS,
    points: Points = as_they_are,
) -> PriorEvidence:
    """The study's messages as a campaign's, the others as earlier campaigns'.

    Args:
        here: The campaign.
        past: Earlier campaigns.
        forecasters: Whose forecasts are declared.
        points: What becomes of every study's forecasts, such as a permutation.
    """
    forecasts = [
        {"forecaster": name, "message_id": m, "points": p, "se": np.nan}
        for study in (here, *past)
        for name, given in study.points.items()
        if name in forecasters
        for m, p in zip(study.ids, points(given), strict=True)
    ]
    effects = [
        {
            "campaign": study.name, "message_id": m, "issue": "any", "text": "",
            "channel": "web", "audience": "panel", "effect": e, "se": se,
        }
        for study in past
        for m, e, se in zip(
            study.ids, study.estimate, np.sqrt(np.diag(study.covariance)), strict=True
        )
    ]  # fmt: skip
    return prior_evidence(
        pd.DataFrame({"message_id": here.ids, "issue": "any", "text": "Text"}),
        check(FORECASTS, pd.DataFrame(forecasts, columns=[*FORECASTS.columns])),
        check(PAST_EFFECTS, pd.DataFrame(effects, columns=[*PAST_EFFECTS.columns])),
        direction=1.0,
        slope_sd=SLOPE_SD,
    )


def estimates(study: Megastudy) -> MessageEstimates:
    """Its own test."""
    return MessageEstimates(
        np.arange(len(study.estimate)), study.estimate, study.covariance
    )
