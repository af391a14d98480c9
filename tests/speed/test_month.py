"""Simulated months against the known truth.

`python -m pytest tests/speed/test_month.py -q -s -m speed` judges as many as the
committed evaluation did; `hustings month --campaign 30_days --seeds N --out FILE`
writes the same. Figures stand in `month.md` and experiments/30_days/evaluation.json.
"""

import json
import sys
from typing import Any

import pytest

from hustings.experiments.declaration import EXPERIMENTS, load_campaign
from hustings.experiments.simulation.month import evaluation_text, judged_months

pytestmark = pytest.mark.speed

COMMITTED = EXPERIMENTS / "30_days" / "evaluation.json"


@pytest.fixture(scope="module")
def evaluation() -> dict[str, Any]:
    n_seeds = json.loads(COMMITTED.read_text())["n_seeds"]
    judged = judged_months(load_campaign("30_days"), n_seeds=n_seeds)
    sys.stdout.write(f"\n{evaluation_text(judged)}\n")
    return judged


def test_regret_is_a_third_below_one_message_and_below_chance(
    evaluation: dict[str, Any],
) -> None:
    ratio = evaluation["regret_ratio"]
    assert ratio["loop_over_single_best"]["of_means"] <= 0.7
    assert ratio["loop_over_random"]["of_means"] < 1.0


def test_exploring_costs_little_beside_greed(evaluation: dict[str, Any]) -> None:
    assert evaluation["regret_ratio"]["loop_over_greedy"]["of_means"] <= 1.15


def test_intervals_of_predicted_lift_hold_on_average(
    evaluation: dict[str, Any],
) -> None:
    assert 0.93 <= evaluation["predicted"]["covered"]["mean"] <= 0.97


def test_measured_lift_holds_at_every_look(evaluation: dict[str, Any]) -> None:
    assert evaluation["measured_at_every_look"]["share_of_months_held"] >= 0.95


def test_every_month_leaves_an_intact_record(evaluation: dict[str, Any]) -> None:
    assert evaluation["n_intact"] == evaluation["n_seeds"]


def test_the_committed_evaluation_is_this_one(evaluation: dict[str, Any]) -> None:
    committed = json.loads(COMMITTED.read_text())
    for name, spread in committed["regret"].items():
        assert evaluation["regret"][name]["mean"] == pytest.approx(
            spread["mean"], rel=1e-3
        )
