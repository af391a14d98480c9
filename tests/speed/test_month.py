"""Twenty simulated months against the known truth.

`python -m pytest tests/speed/test_month.py -q -s -m speed` judges them (about ten
minutes on one core); `hustings month --campaign 30_days --seeds 20 --out FILE` writes
the same.
Figures stand in `month.md` and experiments/30_days/evaluation.json.
"""

import json
import sys

import pytest

from hustings.experiments.declaration import EXPERIMENTS, load_campaign
from hustings.experiments.simulation.month import judged_months, told_text

pytestmark = pytest.mark.speed

N_SEEDS = 20


@pytest.fixture(scope="module")
def found() -> dict:
    made = judged_months(load_campaign("30_days"), n_seeds=N_SEEDS)
    sys.stdout.write(f"\n{told_text(made)}\n")
    return made


def test_regret_is_a_third_below_one_message_and_below_chance(found: dict) -> None:
    ratio = found["regret_ratio"]
    assert ratio["loop_over_single_best"]["of_means"] <= 0.7
    assert ratio["loop_over_random"]["of_means"] <= 0.7


def test_exploring_costs_little_beside_greed(found: dict) -> None:
    assert found["regret_ratio"]["loop_over_greedy"]["of_means"] <= 1.15


def test_the_loops_intervals_hold_and_those_of_greed_do_not(found: dict) -> None:
    coverage = found["coverage"]
    assert 0.93 <= coverage["loop_all"]["covered"] <= 0.97
    assert coverage["greedy"]["covered"] < 0.93


def test_every_month_replays(found: dict) -> None:
    assert found["n_replayed_alike"] == found["n_replayed"] == N_SEEDS


def test_the_committed_evaluation_is_this_one(found: dict) -> None:
    committed = json.loads((EXPERIMENTS / "30_days" / "evaluation.json").read_text())
    assert found["n_seeds"] == committed["n_seeds"]
    for name, told in committed["regret"].items():
        assert found["regret"][name]["mean"] == pytest.approx(told["mean"], rel=1e-3)
