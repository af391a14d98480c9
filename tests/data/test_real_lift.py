"""Measured lift, compliance and power beside published figures, on the real tables."""

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import data_dir
from hustings.training.estimators.compliance import compliance
from hustings.training.estimators.metrics import Interval
from hustings.training.measured_lift.adaptive import (
    Decisions,
    population_lifts,
    predicted_response,
)
from hustings.training.measured_lift.power import (
    ClaimCertainty,
    Noise,
    detectable_lift,
    lift_se,
)


def _table(name: str) -> pd.DataFrame:
    path = data_dir() / name
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")
    return pd.read_parquet(path)


def test_canvassing_in_new_haven_is_the_textbooks() -> None:
    # Gerber & Green, Field Experiments (2012), box 5.4: people alone in the household,
    # no mail and no phone: n = 7,090, +3.85 points, 27.3 % reached
    people = _table("newhaven1998/newhaven_individual.parquet")
    alone = people[
        (people["persons"] == 1)
        & (people["mailings"] == 0)
        & (people["phongotv"] == 0)
        & (people["onetreat"] == 1)
    ]
    found = compliance(
        alone["v98"].to_numpy(dtype=np.float64),
        (alone["persngrp"] == 1).to_numpy(),
        (alone["cntany"] == 1).to_numpy(),
        alone["id1"].to_numpy().astype(np.int64),
    )
    assert found.n == 7_090
    assert round(100 * found.assigned.value, 2) == 3.85
    assert round(100 * found.contacted.value, 1) == 27.3
    assert found.reached.value == pytest.approx(0.03846 / 0.27336, abs=2e-4)
    # the delta method and Fieller agree where a quarter is reached
    assert found.reached.se == pytest.approx(found.reached_delta.se, rel=0.02)
    assert found.reached.low > 0


@pytest.fixture(scope="module")
def mailers() -> pd.DataFrame:
    return _table("ggl2008_mailers/ggl2008.parquet")


ARMS = ["No Postcard", "Civic Duty", "Hawthorne", "Self", "Neighbors"]


def _arm(mailers: pd.DataFrame) -> np.ndarray:
    text = mailers["treatment"].astype(str).str.strip()
    codes = pd.Index(ARMS).get_indexer(pd.Index(text))
    if (codes < 0).any():
        pytest.fail(f"expected {ARMS}, got {sorted(text.unique())}")
    return codes


def test_the_error_predicted_for_the_mailers_is_the_one_they_have(
    mailers: pd.DataFrame,
) -> None:
    arm = _arm(mailers)
    Y = mailers["primary_06"].to_numpy(dtype=np.float64)
    household = pd.factorize(mailers["hh_id_reconstructed"])[0].astype(np.int64)
    control = arm == 0
    size = np.bincount(household)[household]
    mean = Y[control].mean()
    off = np.where(control, Y - mean, 0.0)
    totals = np.bincount(household, weights=off)
    pairs = np.bincount(household, weights=control * (size - 1.0)).sum()
    icc = ((totals**2).sum() - (off**2).sum()) / pairs / Y[control].var()
    # published turnout: 29.7 % without a letter, 37.8 % with the neighbours'
    noise, sent = (
        Noise((rate * (1 - rate)) ** 0.5, float(size.mean()), float(icc))
        for rate in (0.297, 0.378)
    )
    n = np.bincount(arm)
    predicted = np.hypot(lift_se(sent, n[4], np.inf), lift_se(noise, np.inf, n[0]))
    e = np.tile([5 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9], (len(arm), 1))
    decisions = Decisions(np.zeros(len(arm), dtype=np.int64), arm, e, Y, household)
    mu = np.full((len(arm), 5), Y.mean())
    found = population_lifts(decisions, mu)
    measured = found.intervals()[3]
    assert measured.se == pytest.approx(predicted, rel=0.03)
    # published: Neighbors +8.1 points; the design could have seen less than one point
    assert measured.low < 0.081 < measured.high
    assert detectable_lift(noise, n[4], n[0], ClaimCertainty(n_claims=4)) < 0.013


def test_vote_history_narrows_the_mailers_intervals_and_moves_no_lift(
    mailers: pd.DataFrame,
) -> None:
    some = mailers.iloc[:60_000]
    arm = _arm(some)
    X = some[["age", "primary_00", "primary_02", "primary_04", "general_00",
              "general_02"]].to_numpy(dtype=np.float64)  # fmt: skip
    e = np.tile([5 / 9, 1 / 9, 1 / 9, 1 / 9, 1 / 9], (len(arm), 1))
    household = pd.factorize(some["hh_id_reconstructed"])[0].astype(np.int64)
    decisions = Decisions(
        np.zeros(len(arm), dtype=np.int64), arm, e,
        some["primary_06"].to_numpy(dtype=np.float64), household,
    )  # fmt: skip
    mu = predicted_response(X, decisions, fold=household % 5)
    ours, plain = (population_lifts(decisions, m) for m in (mu, np.full(mu.shape, 0.3)))
    assert (ours.se < 0.99 * plain.se).all()
    moved = np.abs(ours.value - plain.value)
    assert (moved < 2 * plain.se).all()
    assert isinstance(ours.intervals()[0], Interval)
