"""A partner's lifts: as delivered, judged like any other; the model holds nobody."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.features.partner import lift_column, providers, with_partner_scores
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.baselines import untargeted
from hustings.training.learners.gbm import prepare
from hustings.training.learners.lift_model import load_lift, save_lift
from hustings.training.policy_value.held_out_halves import HeldOutHalf, judge_halves
from hustings.training.policy_value.partner import (
    PartnerLift,
    partner_policy,
    winning_partner,
)
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import answer, evaluate, partner_slope
from hustings.training.registry.campaign_model import lifts_of


def market_of(test) -> Market:
    shape = (len(test.Y), len(test.arms))
    return Market(np.ones(len(test.arms)), np.ones(shape, dtype=bool), 0.5)


def delivered(test, lift: np.ndarray, provider: str = "acme") -> pd.DataFrame:
    """PARTNER_SCORES rows of some lifts, with intervals two units wide."""
    n, m = lift.shape
    return pd.DataFrame(
        {
            "provider": provider,
            "voter_id": np.repeat(test.voter_id, m).astype(str),
            "message_id": np.tile(np.array(test.messages), n),
            "lift": lift.ravel(),
            "lift_low": lift.ravel() - 1,
            "lift_high": lift.ravel() + 1,
            "observed_on": pd.Timestamp(2026, 1, 1),
        }
    )


def voters_of(test) -> pd.DataFrame:
    return pd.DataFrame({"voter_id": test.voter_id.astype(str)})


@pytest.fixture(scope="module")
def strong(planted: Callable):
    """Our own model sees one trait in three of those that decide; the partner all."""
    test, truth = planted(
        np.random.default_rng(1), n_households=1_500,
        lift=lambda X: np.outer(X[:, :3].sum(axis=1), [1.0, -1.0]),
    )  # fmt: skip
    return replace(test, X=test.X[:, [0, 3]]), truth


@pytest.fixture(scope="module")
def prepared(strong):
    test = strong[0]
    return prepare(test, [], dict.fromkeys(test.messages, "issue"), seed=1)


def judged(
    strong, small_trees: dict, **lifts: np.ndarray
) -> tuple[list[HeldOutHalf], dict]:
    test = strong[0]
    scores = pd.concat([delivered(test, lift, name) for name, lift in lifts.items()])
    voters = with_partner_scores(voters_of(test), scores.reset_index(drop=True))
    found = {f"partner:{name}": partner_policy(name, voters, 1.0) for name in lifts}
    halves = judge_halves(
        test, market_of(test), categorical=[], settings=lambda *_: small_trees,
        issue_of=dict.fromkeys(test.messages, "issue"), seed=1, current_practice=found,
    )  # fmt: skip
    everyone = np.full(len(test.Y), "everyone", dtype=object)
    return halves, evaluate(test, market_of(test), halves, segment=everyone).to_json()


def test_columns_hold_what_was_delivered_and_nothing_of_others(strong) -> None:
    test, truth = strong
    scores = delivered(test, truth).iloc[: 2 * 10]
    voters = with_partner_scores(voters_of(test), scores)
    name = lift_column("acme", test.messages[1])
    np.testing.assert_array_equal(voters[name].to_numpy()[:10], truth[:10, 1])
    assert voters[name][10:].isna().all()
    assert providers(scores) == ["acme"]


def test_unknown_voters_get_the_average_effect_and_known_ones_their_lift(
    strong, prepared
) -> None:
    test, truth = strong
    scores = delivered(test, truth).iloc[: 2 * 10]
    voters = with_partner_scores(voters_of(test), scores).head(20)
    model = PartnerLift(prepared.nuisances, "acme")
    found = lifts_of(model, voters, test.X[:20], test.unit_id[:20])
    effects = prepared.nuisances.effects
    np.testing.assert_array_equal(found.lift[:10], truth[:10])
    np.testing.assert_array_equal(found.lift[10:], np.tile(effects.shrunken, (10, 1)))
    # intervals two units wide, as delivered; of the others, those of the average
    np.testing.assert_allclose(found.se[:10], 1 / 1.959964, rtol=1e-6)
    np.testing.assert_array_equal(found.se[10:], np.tile(effects.shrunken_se, (10, 1)))
    flat = untargeted(prepared.nuisances).predict(test.X[10:20], test.unit_id[10:20])
    np.testing.assert_allclose(found.baseline[10:], flat.baseline)


def test_lifts_of_an_outcome_better_when_lower_are_turned_round(
    strong, prepared
) -> None:
    test, truth = strong
    voters = with_partner_scores(voters_of(test), delivered(test, truth))
    found = lifts_of(
        PartnerLift(prepared.nuisances, "acme", -1.0), voters, test.X, test.unit_id
    )
    np.testing.assert_array_equal(found.lift, -truth)


def test_a_saved_partner_model_holds_nobody_and_predicts_alike(
    strong, prepared, tmp_path: Path
) -> None:
    test, truth = strong
    voters = with_partner_scores(voters_of(test), delivered(test, truth))
    model = PartnerLift(prepared.nuisances, "acme")
    save_lift(model, tmp_path)
    again = load_lift(tmp_path)
    for one, other in zip(
        lifts_of(model, voters, test.X, test.unit_id),
        lifts_of(again, voters, test.X, test.unit_id),
        strict=True,
    ):
        np.testing.assert_allclose(one, other)
    texts = [file.read_text() for file in tmp_path.iterdir()]
    assert not [t for t in texts if test.voter_id[7] in t.split('"')]


def test_an_oracle_partner_passes_the_gate_and_its_lifts_come_true(
    strong, small_trees: dict
) -> None:
    test, truth = strong
    halves, found = judged(strong, small_trees, acme=truth)
    assert found["champion"] == "partner:acme"
    assert found["verdict"] == "personalise"
    assert found["partners"]["partner:acme"]["over_personalised"]["low"] > 0
    slope = partner_slope(test, halves, truth)
    assert slope.low < 1 < slope.high
    said = answer(found, unit_per_point=1.0, label="y")
    assert said.startswith("Use the lifts of acme: at equal spend they add +")


def test_a_partner_of_noise_changes_neither_verdict_nor_champion(
    strong, small_trees: dict
) -> None:
    test, truth = strong
    noise = np.random.default_rng(9).normal(size=truth.shape)
    halves, found = judged(strong, small_trees, noise=noise)
    everyone = np.full(len(test.Y), "everyone", dtype=object)
    bare = [
        replace(
            h, policies={n: p for n, p in h.policies.items() if n != "partner:noise"}
        )
        for h in halves
    ]
    without = evaluate(test, market_of(test), bare, segment=everyone).to_json()
    for key in ("verdict", "champion", "gain_from_personalising", "best_baseline"):
        assert found[key] == without[key]
    assert without["partners"] == {}
    assert found["partners"]["partner:noise"]["over_best_baseline"]["high"] < 0.2
    slope = partner_slope(test, halves, noise)
    assert slope.low < 0 < slope.high < 0.5


def test_the_partner_has_to_beat_baselines_personalised_and_champion() -> None:
    names = ["nobody", "single_best", "best_mix", "one_covariate", "personalised",
             "champion", "partner:a", "partner:b"]  # fmt: skip

    def difference(name: str, rival: str, weak: str = "") -> Interval:
        low = -0.1 if rival == weak else {"partner:a": 0.1, "partner:b": 0.3}[name]
        return Interval(low + 0.5, low, low + 1)

    assert winning_partner(names, difference) == "partner:b"
    for rival in names[:6]:
        assert winning_partner(names, lambda n, r, w=rival: difference(n, r, w)) is None
    assert winning_partner(names[:6], difference) is None
