"""How far experts and GPT-4 are believed on real tests, and what that is worth.

`tests/speed/test_forecasts.py` is the long version, with intervals.
"""

import numpy as np
import pytest
from scipy.stats import spearmanr

from hustings.training.learners.forecasts import expected_effects
from tests.megastudies import Megastudy, estimates, evidence_for, megastudies

N_PERMUTED = 4


@pytest.fixture(scope="module")
def studies() -> list[Megastudy]:
    return megastudies()


def test_a_permuted_forecaster_is_not_believed(studies: list[Megastudy]) -> None:
    """In every study, alone and with the other studies as earlier campaigns."""
    rng = np.random.default_rng(0)
    for with_past in (False, True):
        slopes = []
        for here in studies:
            past = [s for s in studies if s.family != here.family] * with_past
            for _ in range(1 if with_past else N_PERMUTED):
                evidence = evidence_for(here, past, points=rng.permutation)
                no_messages = np.empty(0, dtype=np.int64)
                found = expected_effects(
                    evidence, [estimates(here)], no_messages, usual_effect=1.0
                )
                slopes += [row.slope for row in found.slopes]
        value = np.array([s.value for s in slopes])
        assert np.median(np.abs(value)) < 0.1
        assert abs(value.mean()) < 0.03
        assert np.mean([s.low < 0 < s.high for s in slopes]) >= 0.95


def test_forecasts_believed_by_other_studies_rank_messages_of_a_new_one(
    studies: list[Megastudy],
) -> None:
    """No message of the family was seen; by chance the mean is 0 ± .08."""
    by_family: dict[str, list[float]] = {}
    slopes = {}
    for here in studies:
        past = [s for s in studies if s.family != here.family]
        evidence = evidence_for(here, past)
        n = len(here.estimate)
        found = expected_effects(evidence, [], np.arange(n), usual_effect=1.0)
        rank = spearmanr(found.mean, here.estimate).statistic
        by_family.setdefault(here.family, []).append(float(rank))
        slopes[here.name] = {row.forecaster: row.slope for row in found.slopes}
    assert np.mean([np.mean(ranks) for ranks in by_family.values()]) > 0.25
    # GPT-4 knows something of every study; whether experts do beside it is open
    assert all(row["gpt4"].value > 0.15 for row in slopes.values())
    assert all(row["expert"].low < 0 < row["expert"].high for row in slopes.values())
