"""What `power` makes of a campaign's facts: planted, and in words."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.power import (
    PowerFacts,
    as_json,
    noise_of,
    power,
    sentences,
    untested,
    with_changes,
)
from hustings.features.tables import CONTROL
from hustings.training.measured_lift.power import Beliefs, Noise

FACTS = PowerFacts(
    n_audience=100_000,
    n_contacts=20_000,
    n_affordable=20_000,
    days=20,
    lag_days=1,
    cost_usd=0.5,
    noise=Noise(20.0),
    beliefs=Beliefs.exchangeable(6, mean=1.0, sd=1.0),
    source="a prior",
)


def test_noise_of_households_and_silence_is_the_planted_one() -> None:
    rng = np.random.default_rng(1)
    n, together = 20_000, np.repeat(rng.standard_normal(10_000), 2)
    Y = 3.0 * together + 4.0 * rng.standard_normal(n)
    Y = np.where(rng.random(n) < 0.1, np.nan, Y)
    home = [f"H{i // 2}" for i in range(n)]
    ids = [f"V{i}" for i in range(n)]
    rows = pd.DataFrame(
        {"voter_id": ids, "household_id": home, "message_id": CONTROL, "outcome": Y}
    )
    noise = noise_of(rows, rows[["voter_id", "household_id"]])
    assert noise.sd == pytest.approx(5.0, abs=0.1)
    assert noise.icc == pytest.approx(9 / 25, abs=0.03)
    assert noise.household == pytest.approx(2.0)
    assert noise.missing == pytest.approx(0.1, abs=0.01)


def test_a_holdout_costs_what_its_voters_would_gain_less_what_the_money_buys() -> None:
    # money for 20,000 among 100,000: whoever is held out, as many others are contacted
    assert all(r.forgone == pytest.approx(0.0) for r in power(FACTS, seed=1).holdouts)
    # by hand: money for 95,000 of 100,000, a tenth held out: 90,000 are left to contact
    short = replace(FACTS, n_affordable=95_000)
    tenth = power(short, seed=1).holdouts[2]
    assert tenth.holdout_share == 0.1
    assert tenth.of_held_out == pytest.approx(9_500)
    assert tenth.of_others == pytest.approx(90_000 - 85_500)
    assert tenth.forgone == pytest.approx(5_000)
    assert tenth.unspent_usd == pytest.approx(2_500)


def test_a_larger_holdout_sees_more_and_leaves_more_to_others() -> None:
    rows = power(FACTS, seed=1).holdouts
    assert all(a.once > b.once for a, b in pairwise(rows))
    assert all(a.of_held_out < b.of_held_out for a, b in pairwise(rows))
    assert all(r.once < r.daily < r.by_message for r in rows)
    # the detectable lift is the one that is seen in four of five campaigns
    asked = replace(FACTS, beliefs=Beliefs.exchangeable(6, mean=rows[2].once, sd=1.0))
    assert power(asked, seed=1).holdouts[2].power == pytest.approx(0.8, abs=1e-3)
    # 2,222 of those chosen are held out at a tenth; 2.8 standard errors
    tenth = rows[2]
    assert (tenth.n_sent, tenth.n_compared) == (20_000, 2_222)
    assert tenth.once == pytest.approx(
        2.802 * 20 * (1 / 20_000 + 1 / 2_222) ** 0.5, 1e-3
    )


def test_the_smallest_holdout_that_is_enough_is_recommended() -> None:
    """By hand: 1.0 over 20 √(1/20,000 + 1/2,222) is 2.24 standard errors, seen in 61 %;
    with a fifth held out, 5,000, it is 3.16, seen in 89 %."""
    advice = power(FACTS, seed=1).recommended
    assert (advice.share, advice.is_enough) == (0.2, True)
    assert "89 %" in advice.why
    little = replace(FACTS, beliefs=Beliefs.exchangeable(6, mean=0.01, sd=0.01))
    advice = power(little, holdouts=(0.1, 0.3, 0.2), seed=1).recommended
    assert (advice.share, advice.is_enough) == (0.3, False)
    assert "none of those compared" in advice.why
    said = sentences(power(little, holdouts=(0.1, 0.3, 0.2), seed=1))
    assert any(s.startswith("No holdout is recommended (30 %") for s in said)


def test_the_wave_that_shows_lifts_is_larger_the_smaller_they_are() -> None:
    small = PowerFacts(
        **{**vars(FACTS), "beliefs": Beliefs.exchangeable(6, mean=0.5, sd=0.2)}
    )
    assert power(small, seed=1).wave_power_n > power(FACTS, seed=1).wave_power_n


def test_fewer_days_left_explore_no_more() -> None:
    month, last = power(FACTS, seed=1), power(with_changes(FACTS, days=1), seed=1)
    assert last.best.epsilon == 0
    assert month.best.epsilon * month.best.days > 0
    assert month.best.learned > 0
    assert last.facts.n_contacts == 1_000


def test_tested_messages_are_as_far_apart_when_none_had_been_tested() -> None:
    tested = Beliefs(np.array([0.0, 2.0]), np.eye(2) * 0.25)
    fresh = untested(tested)
    assert fresh.mean.tolist() == [1.0, 1.0]
    assert np.diag(fresh.covariance) == pytest.approx([1.25, 1.25])


def test_the_words_say_the_figures() -> None:
    found = power(FACTS, holdouts=(0.1,), seed=1)
    text = " ".join(sentences(found))
    assert "Holdout 10 %" in text
    assert f"{found.holdouts[0].daily:.2f} where every day is looked at" in text
    assert f"Explore {100 * found.best.epsilon:.0f} %" in text
    assert as_json(found)["first_wave"]["n_for_power"] == found.wave_power_n
