"""Power of the gate: what the closed form says is what the gate's rule does."""

import numpy as np
import pytest

from hustings.training.estimators.metrics import Interval
from hustings.training.measured_lift.power import gate_power, times_larger
from hustings.training.policy_value.gate import GATE_ALPHA, spent_alpha
from hustings.training.policy_value.verdict import _verdict

N_DRAWS = 4_000
NO_SPLIT = Interval.of(0.0, se=1.0)


def opened(gains: list[float], se: float, attempt: int, seed: int = 0) -> float:
    """How often the gate's rule opens, its rivals' differences sharing their noise."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(N_DRAWS, 1))
    noise = 0.9 * shared + np.sqrt(1 - 0.81) * rng.normal(size=(N_DRAWS, len(gains)))
    n = 0
    for row in se * noise + np.array(gains):
        differences = {str(k): Interval.of(d, se=se) for k, d in enumerate(row)}
        n += _verdict(differences, NO_SPLIT, attempt) == "personalise"
    return n / N_DRAWS


@pytest.mark.parametrize("attempt", [1, 2])
@pytest.mark.parametrize("z", [1.0, 2.5, 4.0])
def test_the_gate_opens_as_often_as_its_power_says(z: float, attempt: int) -> None:
    power = gate_power(0.3 * z, 0.3, spent_alpha(attempt))
    error = 3 * np.sqrt(0.25 / N_DRAWS)
    # one rival decides where the others are far behind
    assert opened([0.3 * z, 9.0, 9.0], 0.3, attempt) == pytest.approx(power, abs=error)
    # with rivals as good as the best it opens less often: the closed form is a bound
    assert opened([0.3 * z] * 3, 0.3, attempt) <= power + error


@pytest.mark.parametrize("attempt", [1, 3])
def test_what_gains_nothing_is_promoted_no_more_often_than_declared(
    attempt: int,
) -> None:
    share = opened([0.0, 0.0, 9.0], 1.0, attempt)
    assert share <= spent_alpha(attempt) + 3 * np.sqrt(GATE_ALPHA / N_DRAWS)
    assert gate_power(0.0, 1.0, spent_alpha(attempt)) == pytest.approx(
        spent_alpha(attempt)
    )


def test_so_many_voters_show_the_gain_in_four_of_five_tests() -> None:
    alpha, gain, se = spent_alpha(2), 0.4, 0.9
    larger = times_larger(gain, se, alpha)
    assert opened([gain, 9.0], se / np.sqrt(larger), 2) == pytest.approx(0.8, abs=0.02)
