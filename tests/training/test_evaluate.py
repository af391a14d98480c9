"""The verdict refuses what is not there, and grants what is."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import EffectPrior, MessageTest
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.boosting import binned
from hustings.training.policy_value.guardrails import group_effects
from hustings.training.policy_value.held_out_halves import (
    BASELINES,
    Contender,
    HeldOutHalf,
    judge_halves,
)
from hustings.training.policy_value.policies import Policy
from hustings.training.policy_value.results import Evaluation
from hustings.training.policy_value.spending import Market
from hustings.training.policy_value.verdict import (
    _verdict,
    answer,
    channel_rows,
    decide,
    evaluate,
    message_rows,
    permuted_gain,
)


def market_of(test, spend: float = 0.5) -> Market:
    shape = (len(test.Y), len(test.arms))
    return Market(np.ones(len(test.arms)), np.ones(shape, dtype=bool), spend)


def judged(
    test, params: dict, seed: int = 1, market: Market | None = None
) -> list[HeldOutHalf]:
    return judge_halves(
        test, market or market_of(test), categorical=[], settings=lambda *_: params,
        issue_of=dict.fromkeys(test.messages, "issue"), seed=seed,
    )  # fmt: skip


def evaluated(test, params: dict, seed: int = 1, **asked: Any) -> dict[str, Any]:
    everyone = np.full(len(test.Y), "everyone", dtype=object)
    return evaluate(
        test, market_of(test), judged(test, params, seed),
        **{"segment": everyone, **asked},
    ).to_json()  # fmt: skip


def in_place(lift: np.ndarray) -> Contender:
    """A champion in use that predicts these lifts."""
    return Contender(Policy("personalised"), lift, np.zeros(lift.shape))


def opposed(X: np.ndarray) -> np.ndarray:
    """What one message wins of a voter the other loses; three traits decide."""
    total = X[:, :3].sum(axis=1)
    return np.column_stack([total, -total])


@pytest.fixture(scope="module")
def strong(planted: Callable):
    return planted(np.random.default_rng(1), n_households=1_500, lift=opposed)


@pytest.fixture(scope="module")
def halves(strong, small_trees: dict) -> list[HeldOutHalf]:
    return judged(strong[0], small_trees)


@pytest.fixture(scope="module")
def result(strong, halves) -> dict[str, Any]:
    test = strong[0]
    sizes = np.full(len(test.Y), "many", dtype=object)
    sizes[: SMALLEST_CELL - 1] = "few"
    sizes[SMALLEST_CELL - 1 : 2 * SMALLEST_CELL - 1] = "just enough"
    return evaluate(test, market_of(test), halves, segment=sizes).to_json()


def test_a_strong_planted_heterogeneity_is_promoted(result) -> None:
    assert result["verdict"] == "personalise"
    assert result["champion"] == "personalised"
    gain = result["policies"]["personalised"]["gain"]
    # an oracle has 1.1: the half of voters whom the sum of three normals moves most
    assert 0.5 < gain["value"] < 1.2
    assert result["gain_from_personalising"]["low"] > 0
    assert 0.7 < result["calibration"]["slope"]["value"] < 1.3


def test_no_seed_of_a_world_without_heterogeneity_is_promoted_too_often(
    planted: Callable, small_trees: dict
) -> None:
    """Eight tests; at a false rate of 5 % three or more happen six times in 1,000."""
    verdicts = []
    for seed in range(8):
        test, _ = planted(
            np.random.default_rng(seed), n_households=500,
            lift=lambda X: np.tile([0.3, 0.2], (len(X), 1)),
        )  # fmt: skip
        verdicts.append(evaluated(test, small_trees, seed)["verdict"])
    assert verdicts.count("personalise") <= 2, verdicts
    assert verdicts.count("one_split_suffices") <= 2, verdicts


def test_the_null_twin_of_the_simulated_campaign_is_not_promoted(
    null_fitted, small_trees: dict
) -> None:
    """All alike: to choose person by person adds nothing, and the verdict says so."""
    test = null_fitted.test.take(np.arange(12_000))
    costs = null_fitted.sample.tables["costs"].set_index("channel")["cost_usd"]
    cost = costs[[a.channel for a in test.arms]].to_numpy()
    market = Market(cost, np.ones((12_000, len(cost)), dtype=bool), 0.45)
    halves = judge_halves(
        test, market, categorical=null_fitted.encoding.categorical,
        issue_of=null_fitted.issue_of, settings=lambda *_: small_trees, seed=1,
    )  # fmt: skip
    segment = np.full(12_000, "everyone", dtype=object)
    found = evaluate(test, market, halves, segment=segment).to_json()
    assert found["verdict"] == "not_worth_personalising"
    over_nobody = found["gain_of_best_untargeted"]
    assert found["champion"] in ("single_best", "best_mix", "nobody")
    assert (found["champion"] == "nobody") == (found["gate"]["next_test"] is not None)
    assert over_nobody["value"] > 0
    assert found["differences"]["best_mix"]["low"] < 0


def test_shuffled_labels_leave_no_gain(strong, small_trees: dict) -> None:
    """The planted gain is 0.7; shuffled, its mean over seeds is 0 within its error."""
    test = strong[0].take(strong[0].unit < 700)
    found = [
        permuted_gain(
            test, market_of(test), categorical=[], params=small_trees, seed=seed,
            issue_of=dict.fromkeys(test.messages, "issue"),
        )
        for seed in range(6)
    ]  # fmt: skip
    covers = [f.low <= 0 <= f.high for f in found]
    # two misses of six at a rate of 5 % happen three times in a hundred
    assert sum(covers) >= 4, found
    assert np.mean([f.value for f in found]) < 0.15


ABOVE, AROUND = Interval.of(1.0, se=0.1), Interval.of(1.0, se=0.6)
NO_GAIN = Interval.of(0.0, se=1.0)


@pytest.mark.parametrize("uncertain", [*BASELINES, "champion"])
def test_the_verdict_refuses_when_any_one_rival_is_not_surely_beaten(uncertain) -> None:
    rivals = (*BASELINES, "champion")
    all_beaten = dict.fromkeys(rivals, ABOVE)
    assert _verdict(all_beaten, NO_GAIN) == "personalise"
    all_but_one = {**all_beaten, uncertain: AROUND}
    assert _verdict(all_but_one, NO_GAIN) == "not_worth_personalising"
    assert _verdict(all_but_one, ABOVE) == "one_split_suffices"
    touching = {**all_beaten, uncertain: Interval(1.0, 0.0, 2.0)}
    assert _verdict(touching, NO_GAIN) == "not_worth_personalising"


def test_a_later_attempt_asks_for_more_certainty() -> None:
    """2.5 errors: enough at α 0.0152 (2.17 errors), not at a quarter of it (2.67)."""
    rivals = dict.fromkeys(BASELINES, Interval.of(1.0, se=0.4))
    assert _verdict(rivals, NO_GAIN, 1) == "personalise"
    assert _verdict(rivals, NO_GAIN, 2) == "not_worth_personalising"
    # 10 errors pass at the thirtieth attempt too
    assert _verdict(dict.fromkeys(BASELINES, ABOVE), NO_GAIN, 30) == "personalise"


@dataclass
class Compared:
    """Policies of which every two differ by so much."""

    apart: Interval
    test: MessageTest
    names: tuple[str, ...] = (*BASELINES, "personalised", "champion")

    def difference(self, _one: str, _other: str) -> Interval:
        return self.apart

    def best(self, names: tuple[str, ...]) -> str:
        return names[-1]

    def contacts(self, _name: str) -> np.ndarray:
        """Nothing is sent, so that no message speaks for a policy."""
        return np.zeros(len(self.test.arms))


def test_a_champion_in_use_stays_as_surely_at_any_attempt(strong) -> None:
    """2.5 errors above the baselines: too few to be promoted late, enough to stay."""
    test, _ = strong
    sure, unsure = (Compared(Interval.of(1.0, se=se), test) for se in (0.4, 0.6))
    assert decide(sure, attempt=30).champion == "champion"
    assert decide(unsure, attempt=30).champion == "nobody"
    # the policy that is in use need not be shown anew at every attempt
    assert decide(sure, attempt=30, in_use="best_mix").champion == "champion"
    blocked = decide(sure, ["attrition"], attempt=1)
    assert (blocked.verdict, blocked.champion) == (
        "not_worth_personalising", "champion",
    )  # fmt: skip


@pytest.mark.parametrize("in_use", [False, True])
def test_a_broken_log_promotes_nothing_however_large_the_gain(
    strong, halves, in_use: bool
) -> None:
    """A fifth of the households without a message are logged as if they had one."""
    test, true = strong
    moved = np.random.default_rng(5).random(test.unit.max() + 1)[test.unit] < 0.2
    broken = replace(test, arm=np.where((test.arm == 0) & moved, 1, test.arm))
    found = evaluate(
        broken, market_of(test), halves, champion=in_place(true) if in_use else None,
        segment=np.full(len(test.Y), "everyone", dtype=object),
    ).to_json()  # fmt: skip
    # over the champion in use, which knows the truth, there is nothing to gain
    assert (found["gain_from_personalising"]["low"] > 0) != in_use
    assert found["verdict"] == "not_worth_personalising"
    assert found["gate"]["blocked_by"] == ["sample_ratio"]
    assert found["champion"] == ("champion" if in_use else "nobody")
    sentence = answer(found, unit_per_point=1.0, label="support")
    assert sentence.startswith("Nothing is promoted: group sizes are not what")


def test_heterogeneity_is_found_where_it_is_and_by_message(strong, result) -> None:
    found = result["heterogeneity"]
    assert found["pooled"]["p_value"] < 1e-6
    assert [row["message_id"] for row in found["messages"]] == ["m0", "m1"]
    for row in found["messages"]:
        assert row["found"]
        assert row["slope"]["low"] > 0
        assert row["autoc"]["low"] > 0
        assert all(group["n"] >= SMALLEST_CELL for group in row["groups"])
        assert [t["share"] for t in row["toc"]] == pytest.approx(
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
        )
    m0, m1 = (row["average"] for row in found["messages"])
    true = strong[1].mean(axis=0)
    assert m0["low"] < true[0] < m0["high"]
    assert m1["low"] < true[1] < m1["high"]


def test_messages_sent_to_few_have_no_heterogeneity_told(
    strong, small_trees: dict
) -> None:
    test = strong[0].take(strong[0].unit < 200)
    found = evaluated(test, {**small_trees, "min_child_samples": 5})
    assert found["heterogeneity"]["messages"] == []
    assert "slope" in found["heterogeneity"]["pooled"]


def test_a_gain_by_weights_alone_agrees_and_is_less_sure(result) -> None:
    for name in ("single_best", "personalised"):
        policy = result["policies"][name]
        with_model, alone = policy["gain"], policy["gain_ipw"]
        width = alone["high"] - alone["low"]
        assert width > 1.02 * (with_model["high"] - with_model["low"])
        assert abs(alone["value"] - with_model["value"]) < width / 2


def test_one_split_suffices_where_one_trait_decides(
    planted: Callable, small_trees: dict
) -> None:
    def one_trait(X: np.ndarray) -> np.ndarray:
        side = np.sign(X[:, 2])
        return np.column_stack([side, -side])

    test, _ = planted(np.random.default_rng(2), n_households=1_000, lift=one_trait)
    found = evaluated(test, small_trees)
    assert found["verdict"] == "one_split_suffices"
    assert found["champion"] == found["best_baseline"] == "one_covariate"
    assert found["gain_from_one_split"]["low"] > 0


def test_where_everything_harms_nothing_is_sent(
    planted: Callable, small_trees: dict
) -> None:
    test, _ = planted(
        np.random.default_rng(2), n_households=500,
        lift=lambda X: np.tile([-1.0, -2.0], (len(X), 1)),
    )  # fmt: skip
    found = evaluated(test, small_trees)
    assert found["verdict"] == "not_worth_personalising"
    assert found["champion"] == "nobody"
    for policy in found["policies"].values():
        assert policy["spend_per_voter_usd"] == 0
        assert policy["contacted_share"] == 0


def test_a_message_that_is_not_shown_to_do_anything_is_not_registered(
    planted: Callable, small_trees: dict
) -> None:
    """A lift of a tenth of the noise on 800 people: too few to tell it from nothing."""
    test, _ = planted(
        np.random.default_rng(3), n_households=400,
        lift=lambda X: np.tile([0.1, 0.0], (len(X), 1)),
    )  # fmt: skip
    found = evaluated(test, small_trees)
    assert found["verdict"] == "not_worth_personalising"
    assert found["champion"] == "nobody"
    planned = found["gate"]["next_test"]
    assert planned["message_id"] in test.messages
    assert planned["n_voters"] > len(test.Y)
    said = answer(found, unit_per_point=1.0, label="y")
    assert f"a test of {planned['n_voters']:,} voters would show" in said
    # a prior from many tests elsewhere carries what the data alone do not show
    prior = EffectPrior(np.array([0.3, 0.3]), np.array([0.03, 0.03]) ** 2)
    carried = evaluated(replace(test, prior=prior), small_trees)
    assert carried["champion"] in ("single_best", "best_mix")
    assert carried["gate"]["carried_by_prior"]


def test_an_evaluation_is_what_its_json_says(strong, halves) -> None:
    segment = np.full(len(strong[0].Y), "everyone", dtype=object)
    found = evaluate(strong[0], market_of(strong[0]), halves, segment=segment)
    again = Evaluation.from_json(json.loads(json.dumps(found.to_json())))
    assert again.to_json() == found.to_json()
    assert again.verdict == found.verdict
    assert again.policies["single_best"] == found.policies["single_best"]


def test_a_champion_that_nothing_new_beats_stays(strong, halves) -> None:
    """The present champion knows the truth: no model learnt from data is better."""
    test, true = strong
    segment = np.full(len(test.Y), "everyone", dtype=object)
    found = evaluate(
        test, market_of(test), halves, segment=segment, champion=in_place(true)
    ).to_json()
    assert found["differences"]["champion"]["value"] < 0
    assert found["champion"] == "champion"


def test_a_champion_that_is_beaten_goes(strong, halves) -> None:
    test, true = strong
    segment = np.full(len(test.Y), "everyone", dtype=object)
    found = evaluate(
        test, market_of(test), halves, segment=segment, champion=in_place(-true)
    ).to_json()
    assert found["differences"]["champion"]["low"] > 0
    assert found["verdict"] == "personalise"
    assert found["champion"] == "personalised"


def test_a_covariate_of_noise_moves_the_gain_by_less_than_its_error(
    strong, result, small_trees: dict
) -> None:
    test = strong[0]
    noise = np.random.default_rng(3).normal(size=(len(test.Y), 1)).astype(np.float32)
    again = evaluated(replace(test, X=np.hstack([test.X, noise])), small_trees)
    before, after = (r["gain_from_personalising"] for r in (result, again))
    error = (before["high"] - before["low"]) / (2 * 1.96)
    assert abs(before["value"] - after["value"]) < error


def test_without_a_random_third_estimates_move_within_their_errors(
    strong, result, small_trees: dict
) -> None:
    """Effects, and the gain of every policy that does not learn more from more."""
    test = strong[0]
    kept = np.random.default_rng(4).random(test.unit.max() + 1)[test.unit] > 1 / 3
    again = evaluated(test.take(kept), small_trees)
    for name in ("nobody", "single_best", "best_mix", "one_covariate"):
        before, after = (r["policies"][name]["gain"] for r in (result, again))
        error = (after["high"] - after["low"]) / (2 * 1.96)
        assert abs(before["value"] - after["value"]) <= 3 * error
    issues = dict.fromkeys(test.messages, "issue")
    whole, part = (
        fit_nuisances(t, binned(t.X, []), issues, seed=1).effects
        for t in (test, test.take(kept))
    )
    assert (np.abs(whole.raw - part.raw) < 3 * part.raw_se).all()


def test_segments_of_fewer_than_twenty_people_are_left_out(strong, result) -> None:
    messages = strong[0].messages
    told = {(row["segment"], row["message_id"]) for row in result["segments"]}
    assert told == {(s, m) for s in ("just enough", "many") for m in messages}
    assert all(row["n"] >= SMALLEST_CELL == 20 for row in result["segments"])


def test_no_figure_of_calibration_speaks_of_fewer_than_twenty_people(
    strong, small_trees: dict
) -> None:
    test = strong[0].take(strong[0].unit < 80)
    found = evaluated(test, {**small_trees, "min_child_samples": 5})
    assert all(g["n"] >= SMALLEST_CELL for g in found["calibration"]["groups"])


def test_segments_tell_the_planted_lift_of_their_members(strong, halves) -> None:
    test, true = strong
    side = np.where(test.X[:, 0] > 0, "high", "low").astype(object)
    found = evaluate(test, market_of(test), halves, segment=side).to_json()["segments"]
    assert len(found) == 4
    for row in found:
        mine, m = side == row["segment"], test.messages.index(row["message_id"])
        error = (row["effect"]["high"] - row["effect"]["low"]) / (2 * 1.96)
        assert abs(row["effect"]["value"] - true[mine, m].mean()) < 4 * error
        assert row["n"] == mine.sum()


def test_the_curve_starts_at_nothing_and_passes_through_the_declared_spend(
    result,
) -> None:
    for row in result["curve"]:
        if row["spend_per_voter_usd"] == 0 or row["policy"] == "nobody":
            assert row["gain"] == 0
        if row["spend_per_voter_usd"] == 0.5:
            gain = result["policies"][row["policy"]]["gain"]
            assert row["gain"] == pytest.approx(gain["value"])
            assert row["low"] == pytest.approx(gain["low"])
    spends = {row["spend_per_voter_usd"] for row in result["curve"]}
    assert 0.5 in spends
    assert max(spends) == 1.0


def test_areas_are_mean_heights_of_the_curves(result) -> None:
    for name in result["policies"]:
        points = sorted(
            (row["spend_per_voter_usd"], row["gain"])
            for row in result["curve"] if row["policy"] == name
        )  # fmt: skip
        spend, gain = np.array(points).T
        mean = np.trapezoid(gain, spend) / (spend[-1] - spend[0])
        assert result["area"][name]["value"] == pytest.approx(mean)
    paired = result["area"]["personalised_less_best_mix"]["value"]
    alone = {n: result["area"][n]["value"] for n in ("personalised", "best_mix")}
    assert paired == pytest.approx(alone["personalised"] - alone["best_mix"])


def test_differences_are_paired_differences_of_the_gains(result) -> None:
    gain = {name: p["gain"]["value"] for name, p in result["policies"].items()}
    for rival, difference in result["differences"].items():
        of_two = gain["personalised"] - gain[rival]
        assert difference["value"] == pytest.approx(of_two)
    beaten = {n: result["differences"][n] for n in BASELINES}
    least = min(beaten.values(), key=lambda difference: difference["value"])
    assert result["gain_from_personalising"] == least == beaten[result["rival"]]


def test_calibration_groups_hold_everybody_in_order(result) -> None:
    groups = result["calibration"]["groups"]
    predicted = [g["predicted"] for g in groups]
    assert predicted == sorted(predicted)
    assert len(groups) == 10
    realised = [g["realised"]["value"] for g in groups]
    assert np.corrcoef(predicted, realised)[0, 1] > 0.9
    assert all(g["realised"]["low"] < g["realised"]["high"] for g in groups)


def test_a_broken_log_raises_the_alarm(strong, halves) -> None:
    """A tenth of the controls are lost; then outcomes of one arm are."""
    test = strong[0]
    rng = np.random.default_rng(5)
    segment = np.full(len(test.Y), "everyone", dtype=object)

    def checks(broken) -> dict[str, Any]:
        found = evaluate(broken, market_of(test), halves, segment=segment)
        return found.to_json()["checks"]

    sound = checks(test)
    assert sound["sample_ratio"]["ok"]
    assert sound["attrition"] == {"p_value": 1.0, "ok": True, "missing_share": 0.0}
    assert sound["overlap_min_propensity"] == pytest.approx(0.3)
    swapped = rng.random(test.unit.max() + 1)[test.unit] < 0.2
    moved = replace(test, arm=np.where((test.arm == 0) & swapped, 1, test.arm))
    assert not checks(moved)["sample_ratio"]["ok"]
    lost = (test.arm == 2) & (rng.random(len(test.Y)) < 0.2)
    holes = checks(replace(test, Y=np.where(lost, np.nan, test.Y)))
    assert not holes["attrition"]["ok"]
    assert holes["attrition"]["missing_share"] == pytest.approx(lost.mean())


def test_messages_and_channels_are_told_with_their_effects(fitted) -> None:
    test, effects = fitted.test, fitted.model.nuisances.effects
    discloses = dict.fromkeys(test.messages, "none")
    rows = message_rows(test, effects, fitted.issue_of, discloses)
    sent = fitted.sample.tables["deliveries"]["message_id"].value_counts()
    for m, row in enumerate(rows):
        assert row["n_sent"] == sent[row["message_id"]]
        assert row["issue"] == fitted.issue_of[row["message_id"]]
        for told, value, se in (
            ("effect", effects.raw[m], effects.raw_se[m]),
            ("shrunken", effects.shrunken[m], effects.shrunken_se[m]),
        ):
            assert row[told] == Interval.of(value, se=se).as_dict()
    costs = fitted.sample.tables["costs"].set_index("channel")["cost_usd"]
    per_arm = costs[[a.channel for a in test.arms]].to_numpy()
    for row in channel_rows(test, effects, per_arm):
        assert row["cost_usd_mean"] == pytest.approx(costs[row["channel"]])


def test_a_fall_in_turnout_is_found(planted: Callable) -> None:
    """Message m1 keeps a tenth of the voters at home, m0 nobody."""
    rng = np.random.default_rng(6)
    test, _ = planted(rng, n_households=3_000)
    voted = rng.random(len(test.Y)) < np.array([0.5, 0.5, 0.4])[test.arm]
    issues = dict.fromkeys(test.messages, "issue")
    parts = pd.DataFrame(index=range(len(voted)))
    effects = group_effects(test, voted.astype(float), parts, [], issues, seed=1)
    found = {e.message_id: e.effect for e in effects}
    assert found["m0"].low < 0 < found["m0"].high
    assert found["m1"].high < 0
    assert abs(found["m1"].value + 0.1) < 4 * found["m1"].se


def test_the_answer_tells_points_with_their_interval() -> None:
    told = {
        "gain_from_personalising": {"value": 0.012, "low": 0.004, "high": 0.02},
        "best_baseline": "best_mix", "rival": "best_mix", "champion": "best_mix",
        "differences": {}, "gate": {"attempt": 1, "blocked_by": []},
    }  # fmt: skip
    for verdict, words in (
        ("personalise", "Personalise: at equal spend it adds"),
        ("one_split_suffices", "One split suffices"),
        ("not_worth_personalising", "Personalising is not shown to pay"),
    ):
        sentence = answer(
            {**told, "verdict": verdict}, unit_per_point=0.01, label="turnout"
        )
        assert sentence.startswith(words)
        assert "+1.2 points (0.4 to 2.0)" in sentence
        assert sentence.count(".") == 4


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((-0.02, -0.03, -0.01), "Personalising loses: −2.0 points (−3.0 to −1.0)"),
        # below zero by the interval of one difference, not of the closest of four
        ((-0.02, -0.0395, -0.0005), "and may lose: the test gives −2.0 points"),
        ((-0.02, -0.05, 0.01), "and may lose: the test gives −2.0 points"),
    ],
)
def test_the_answer_says_loses_where_a_loss_is_shown(ends, words) -> None:
    named = dict(zip(("value", "low", "high"), ends, strict=True))
    told = {
        "gain_from_personalising": named, "rival": "single_best",
        "differences": dict.fromkeys(BASELINES, named), "champion": "nobody",
        "verdict": "not_worth_personalising", "gate": {"attempt": 1, "blocked_by": []},
    }  # fmt: skip
    sentence = answer(told, unit_per_point=0.01, label="turnout")
    assert words in sentence
    assert "against the hardest to beat (single best message" in sentence
    assert "adds" not in sentence


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ((0.02, 0.01, 0.03), "adds +2.0 points (1.0 to 3.0)"),
        ((-0.02, -0.03, -0.01), "gives −2.0 points (−3.0 to −1.0)"),
        ((-0.02, -0.05, 0.01), "gives −2.0 points (−5.0 to 1.0)"),
    ],
)
@pytest.mark.parametrize("champion", ["champion", "one_covariate"])
def test_a_loss_is_never_said_to_be_added(champion, ends, words) -> None:
    gain = dict(zip(("value", "low", "high"), ends, strict=True))
    judged = {
        "gain_from_personalising": gain, "rival": "one_covariate",
        "differences": dict.fromkeys(BASELINES, gain), "champion": champion,
        "verdict": "one_split_suffices", "gate": {"attempt": 2, "blocked_by": []},
        "split": "age at most 54",
    }  # fmt: skip
    sentence = answer(judged, unit_per_point=0.01, label="turnout")
    assert words in sentence
    assert f"{'over' if ends[0] > 0 else 'against'} the hardest to beat" in sentence
    if champion == "one_covariate":
        assert sentence.startswith("One split suffices (age at most 54): ")
        # nothing and a loss are named where the interval holds them
        assert ("which may be a loss" in sentence) == (ends == (-0.02, -0.05, 0.01))
        assert ("at attempt 2" in sentence) == (ends[1] > 0)
