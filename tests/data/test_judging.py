"""Judging on real logs: known answers, and windows known to be broken."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.training.estimators.sample_ratio import count_p_values, failing_periods
from tests.speed.nulls import (
    ISSUES,
    NEW_HAVEN,
    issues,
    new_haven,
    null_twin,
    verdict_of,
)

HEADLINES = data_dir() / "upworthy_tests/upworthy_exploratory.parquet"
BROKEN_FROM, BROKEN_TO = 201325, 201401


def read(path: Path) -> pd.DataFrame:
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")
    return pd.read_parquet(path)


def test_the_broken_weeks_of_the_headline_tests_are_flagged_and_none_after() -> None:
    arms = read(HEADLINES)
    test, names = pd.factorize(arms["clickability_test_id"])
    week = arms.groupby("clickability_test_id")["test_week"].first()[names].to_numpy()
    p_values = count_p_values(arms["impressions"].to_numpy(float), test)
    found = {w.period: w for w in failing_periods(p_values, week)}
    flagged = {period for period, w in found.items() if w.flagged}
    broken = {p for p in found if BROKEN_FROM <= p <= BROKEN_TO}
    assert len(broken) == 30
    assert broken <= flagged
    assert not {period for period in flagged if period > BROKEN_TO}
    # the archive's own count of the first broken week
    assert (found[BROKEN_FROM].n_failing, found[BROKEN_FROM].n_tests) == (28, 47)
    after = [w for period, w in found.items() if period > BROKEN_TO]
    assert sum(w.n_failing for w in after) <= 8


# --- the gate on people who all react alike -------------------------------------------


def test_choosing_an_appeal_by_person_is_not_worth_it_in_new_haven() -> None:
    read(NEW_HAVEN)
    assert verdict_of(new_haven(), seed=1) == "not_worth_personalising"


@pytest.mark.parametrize(
    "which",
    [slice(0, 2), pytest.param(slice(2, 10), marks=pytest.mark.slow)],
    ids=["two", "the_others"],
)
@pytest.mark.slow
def test_choosing_a_message_by_person_is_not_worth_it_on_any_issue(
    which: slice,
) -> None:
    read(ISSUES)
    worlds = issues()
    assert len(worlds) == 10
    verdicts = {w.test.experiment_id: verdict_of(w, seed=1) for w in worlds[which]}
    assert set(verdicts.values()) == {"not_worth_personalising"}, verdicts


def test_twins_of_new_haven_are_seldom_promoted() -> None:
    """Eight draws; two or more at 2.5 % happen once in sixty; gate.md has 200."""
    read(NEW_HAVEN)
    world = new_haven()
    verdicts = [
        verdict_of(null_twin(world, np.random.default_rng(seed)), seed=seed)
        for seed in range(8)
    ]
    assert verdicts.count("not_worth_personalising") >= 7, verdicts
