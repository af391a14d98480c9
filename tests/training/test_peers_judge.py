"""The judge of the comparison with public tools, on cases worked by hand."""

import json
import sys
import types
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hustings.training.estimators.metrics import Interval, clustered_mean
from tests.speed.peers import fit_peer, table
from tests.speed.peers.data_sets import DataSet, Truth, _sample, from_frame
from tests.speed.peers.judge import (
    Standing,
    Tool,
    against_truth,
    behind,
    gains,
    holm,
    judge,
    verdict,
)
from tests.speed.peers.judged import JUDGED_BY, ROOT
from tests.speed.peers.ours import (
    NO_TARGETING,
    OURS,
    REFERENCES,
    posterior,
    prior_moments,
)
from tests.speed.peers.over_tasks import (
    mean_ranks,
    over_tasks,
    pooled_mean,
    standardised,
)
from tests.speed.peers.peers import PEERS, Peer, halves

ONE = np.array([1.0])
TRUTH = np.column_stack([np.arange(40.0) - 8.0, np.full(40, 2.0)])
FLAT = [1]


def scored(lift: np.ndarray) -> np.ndarray:
    return np.column_stack([np.zeros(len(lift)), lift])


def test_one_message_is_spent_on_the_best_looking_and_paid_by_the_score() -> None:
    predicted = np.array([[4.0], [3.0], [2.0], [-1.0]])
    scores = scored(np.array([[5.0], [1.0], [2.0], [7.0]]))
    found = gains(predicted, ONE, scores, (0.25, 0.5, 1.0)).mean(axis=0)
    # the fourth is never sent anything; the curve bends at a quarter, a half and three
    area = (0.5 * 1.25 + (1.25 + 1.5) / 2 + (1.5 + 2.0) / 2 + 2.0) / 4
    assert found == pytest.approx([1.25, 1.5, 2.0, area])


def test_a_dearer_message_is_bought_where_its_hull_says_so() -> None:
    predicted = np.array([[2.0, 5.0], [3.0, 4.0]])
    scores = np.array([[0.0, 10.0, 8.0], [0.0, 6.0, 1.0]])
    spends = (0.5, 1.0, 1.5, 2.0)
    found = gains(predicted, np.array([1.0, 2.0]), scores, spends).mean(axis=0)
    # the second's first message, then half and all of the first's second, then the rest
    assert found[:4] == pytest.approx([3.0, 5.0, 7.0, 4.5])


def test_money_that_does_not_reach_all_who_look_alike_goes_to_random_ones() -> None:
    scores = scored(np.array([[8.0], [0.0], [4.0], [0.0]]))
    found = gains(np.full((4, 1), 2.0), ONE, scores, (0.5,))
    assert found[:, 0] == pytest.approx([4.0, 0.0, 2.0, 0.0])


def test_the_truth_itself_gets_all_of_the_oracles_gain() -> None:
    known = against_truth(
        TRUTH, TRUTH, np.ones(2), (0.1, 0.5), flat=FLAT, low=TRUTH - 1, high=TRUTH + 1
    )
    assert known.share == pytest.approx([1.0, 1.0, 1.0])
    assert known.rmse == 0.0
    assert known.slope == pytest.approx(1.0)
    assert known.flat_spread == pytest.approx([0.0])
    assert (known.coverage, known.width) == (1.0, pytest.approx(2.0))


def test_twice_the_truth_ranks_alike_and_is_found_out_by_its_slope() -> None:
    known = against_truth(2 * TRUTH, TRUTH, np.ones(2), (0.1,), flat=FLAT)
    assert known.share[0] == pytest.approx(1.0)
    assert known.slope == pytest.approx(0.5)
    assert np.isnan(known.coverage)


def test_the_truth_turned_round_gains_less_than_a_constant() -> None:
    wrong = against_truth(TRUTH[::-1], TRUTH, np.ones(2), (0.3,), flat=FLAT)
    same = np.tile(TRUTH.mean(axis=0), (len(TRUTH), 1))
    constant = against_truth(same, TRUTH, np.ones(2), (0.3,), flat=FLAT)
    assert wrong.share[0] < constant.share[0] < 1.0
    assert np.isnan(constant.slope)


@pytest.fixture
def judged() -> tuple[Standing, np.ndarray, np.ndarray]:
    """Two tools on two halves of 60 voters in households of two, and their gains."""
    rng = np.random.default_rng(4)
    cluster = np.repeat(np.arange(30), 2)
    held = [cluster % 2 == 0, cluster % 2 == 1]
    scores, lifts = rng.normal(1, 1, (60, 2)), rng.normal(1, 1, (2, 60, 1))
    found = {
        name: tuple(
            judge(lift[h], scores[h], ONE, np.repeat(np.arange(15), 2), (0.5,))
            for h in held
        )
        for name, lift in zip(("a", "b"), lifts, strict=True)
    }
    gained = np.empty((2, 60))
    for t, pair in enumerate(found.values()):
        for h, half in zip(held, pair, strict=True):
            gained[t, h] = half.gained[:, 0]
    return Standing((verdict(found, held, cluster),)), gained, cluster


def test_a_paired_difference_is_that_of_the_voters_own_gains(judged) -> None:
    standing, gained, cluster = judged
    by_hand = clustered_mean(gained[0] - gained[1], cluster)
    found = standing.ahead("a", "b", 0)
    assert (found.value, found.se) == pytest.approx((by_hand.value, by_hand.se))
    alone = clustered_mean(gained[0], cluster)
    assert standing.gain("a", 0).se == pytest.approx(alone.se)
    assert standing.ahead("a", "a", 0).se == 0.0


def test_splits_are_averaged_and_their_errors_are_not_divided(judged) -> None:
    standing, _, _ = judged
    five = Standing(standing.splits * 5)
    one, many = standing.ahead("a", "b", 0), five.ahead("a", "b", 0)
    assert (many.value, many.se) == pytest.approx((one.value, one.se))


def test_a_tool_is_compared_on_the_splits_that_both_ran(judged) -> None:
    standing, gained, cluster = judged
    half = [cluster % 2 == 0, cluster % 2 == 1]
    better = {
        "a": tuple(
            Tool(gained[0, h, None] + 9.0, Interval.of(1, se=1), np.ones(1), None)
            for h in half
        )
    }  # fmt: skip
    alone = verdict(better, half, cluster)
    both = Standing((*standing.splits, alone))
    assert both.ahead("a", "b", 0).value == standing.ahead("a", "b", 0).value
    assert both.gain("a", 0).value == pytest.approx(standing.gain("a", 0).value + 4.5)


def test_being_behind_is_a_small_one_sided_p_value() -> None:
    assert behind(Interval.of(-1.96, se=1.0)) == pytest.approx(0.025, abs=1e-3)
    assert behind(Interval.of(3.0, se=1.0)) > 0.99
    assert behind(Interval.of(0.0, se=0.0)) == 1.0


def test_holm_multiplies_by_the_tests_left_and_never_falls() -> None:
    found = holm({"a": 0.01, "b": 0.02, "c": 0.9, "d": 0.021})
    assert found == pytest.approx({"a": 0.04, "b": 0.06, "d": 0.06, "c": 0.9})


def test_the_reference_starts_at_its_prior_and_ends_at_the_truth() -> None:
    rng = np.random.default_rng(6)
    weights = np.array([[1.0, 2.0, 1.5], [0.0, 5.0, 0.0]])
    n = 40_000
    groups = np.column_stack([np.ones(n), rng.random(n) < 0.5]).astype(float)
    surprise = rng.choice([0.75, -0.25], size=(n, 3), p=[0.25, 0.75])
    truth = Truth(groups @ weights, groups, weights)
    signal = (surprise * truth.lift).sum(axis=1)
    residual = signal + rng.normal(size=n)
    some, prior = slice(0, 40), prior_moments(truth, pooled=False)
    start, _ = posterior(groups[some], 0 * surprise[some], residual[some], prior)
    assert start == pytest.approx(np.tile(weights.mean(axis=1), (3, 1)))
    mean, covariance = posterior(groups, surprise, residual, prior)
    # the noise that it is told holds the signal too: its own SDs are on the safe side
    se = np.sqrt(np.stack([np.diag(c) for c in covariance]))
    assert (np.abs(mean - weights.T) < 4 * se).all()
    assert se.max() < 0.2


def test_one_prior_for_all_groups_has_the_moments_of_all_weights() -> None:
    weights = np.array([[1.0, 3.0], [0.0, 0.0]])
    truth = Truth(np.ones((1, 2)), np.ones((1, 2)), weights)
    pooled = prior_moments(truth, pooled=True)
    assert pooled == pytest.approx(np.array([[1.0, 1.0], [1.5, 1.5]]))
    alone = prior_moments(truth, pooled=False)
    assert alone == pytest.approx(np.array([[2.0, 0.0], [1.0, 0.0]]), abs=1e-6)


def test_columns_for_the_tools_hold_no_gap_and_name_every_level() -> None:
    train = np.array([0.0, 1.0, 2.0, np.nan])
    held = np.array([2.0, np.nan, 1.0])
    hot, hot_held = fit_peer._column(train, held, True)
    assert hot.astype(int).tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]
    assert hot_held.astype(int).tolist() == [[0, 1], [0, 0], [1, 0]]
    filled, filled_held = fit_peer._column(train, held, False)
    assert filled[:, 1].tolist() == [0, 0, 0, 1]
    assert filled_held[1].tolist() == [0.0, 1.0]
    assert np.isfinite(filled).all()


def task(leads: dict[str, float], se: float = 0.5, **more) -> dict:
    """A task with one figure, as in the JSON."""
    tools = {
        tool: {
            "lead": {"area": lead},
            "ahead_of_no_targeting": {"area": {"value": lead, "se": se}},
            "fit_seconds": 1.0, "predict_seconds": 0.5,
        }
        for tool, lead in leads.items()
    }  # fmt: skip
    return {
        "figures": ["area"], "middle": "area", "ranked": True, "simulated": False,
        "failed": {}, "behind": {}, "ahead": {}, "tools": tools, **more,
    }  # fmt: skip


MINE, BEST, NEXT = next(iter(OURS)), PEERS[0].name, PEERS[1].name


def test_the_standardised_gain_counts_in_the_public_tools_standard_errors() -> None:
    found = task({NEXT: 1.0, BEST: 1.0, MINE: 3.0, NO_TARGETING: 0.0})
    # our own error is not the unit, nor that of a tool that does as no targeting does
    error = {tool: v["ahead_of_no_targeting"]["area"] for tool, v in
             found["tools"].items()}  # fmt: skip
    error[MINE]["se"], error[BEST]["se"] = 9.0, 0.0
    assert standardised(found) == {NEXT: 2.0, BEST: 2.0, MINE: 6.0, NO_TARGETING: 0.0}
    error[NEXT]["se"] = error[NO_TARGETING]["se"] = 0.0
    assert standardised(found)[MINE] == pytest.approx(3 / 9)
    assert standardised(task({NO_TARGETING: 0.0}, se=0.0)) == {}


def test_a_tool_that_failed_is_worth_what_no_targeting_is() -> None:
    failed = {BEST: "broke", MINE: "broke on the second split"}
    found = task({NEXT: 1.0, MINE: 3.0, NO_TARGETING: 0.0}, failed=failed)
    scores = standardised(found)
    assert scores[BEST] == scores[MINE] == 0.0
    rows = over_tasks({"one": found})["pooled"]["real tasks"][MINE]
    assert rows[NEXT]["points"]["value"] == -1.0


def test_ranks_are_among_the_tools_that_ran_on_every_task() -> None:
    scores = [{"a": 2.0, "b": 1.0, "c": 5.0}, {"a": 1.0, "b": 1.0}]
    assert mean_ranks(scores) == {"a": 1.25, "b": 1.75}
    knows = [{"a": 2.0, REFERENCES[0]: 9.0}]
    assert mean_ranks(knows) == {"a": 1.0}


def test_a_pooled_difference_has_the_t_interval_of_its_tasks() -> None:
    pooled = pooled_mean([1.0, 2.0, 3.0])
    # SE 1/sqrt(3), t(2) = 4.303 at 97.5 % and 1.061 at 80 %
    assert pooled["value"] == 2.0
    assert pooled["high"] - 2.0 == pytest.approx(4.3027 / np.sqrt(3), abs=1e-3)
    assert pooled["detectable"] == pytest.approx(
        (4.3027 + 1.0607) / np.sqrt(3), abs=1e-3
    )
    assert pooled_mean([1.0])["low"] is None


def test_over_tasks_real_ones_and_worlds_stand_apart_and_empty_worlds_nowhere() -> None:
    rest = {NEXT: 0.5, NO_TARGETING: 0.0}
    sure = {"behind": {MINE: {BEST: 0.9}}, "ahead": {MINE: {BEST: 0.01}}}
    tasks = {
        "one": task({MINE: 2.0, BEST: 1.0, **rest}, **sure),
        "two": task({MINE: 1.0, BEST: 1.0, **rest}),
        "null": task({MINE: -1.0, BEST: -3.0, **rest}, ranked=False),
        "world": task({MINE: 1.0, BEST: 3.0, **rest}, simulated=True),
        "empty": task({MINE: 0.0, BEST: 0.0, **rest}, simulated=True, ranked=False),
    }
    over = over_tasks(tasks)
    assert over["n_ranked"] == 3
    mine = over["tools"][MINE]
    assert (mine["real"], mine["worlds"]) == (3.0, 2.0)
    assert mine["cpu_seconds"] == 7.5
    assert over["best_peer"] == {"real tasks": BEST, "worlds": BEST}
    real = over["pooled"]["real tasks"][MINE][BEST]
    assert real["n_tasks"] == 3
    assert real["points"]["value"] == pytest.approx((1 + 0 + 2) / 3)
    assert (real["n_ahead"], real["n_behind"]) == (1, 0)
    world = over["pooled"]["worlds"][MINE][BEST]
    assert (world["n_tasks"], world["points"]["value"]) == (1, -2.0)


def test_what_settles_a_judgement_is_there() -> None:
    assert [name for name in JUDGED_BY if not (ROOT / name).exists()] == []


@pytest.fixture
def small() -> DataSet:
    """200 voters and two messages whose lift is known; the second's is flat."""
    rng = np.random.default_rng(8)
    made = from_frame(
        "small",
        pd.DataFrame({"age": rng.normal(50, 9, 200)}),
        arm=rng.integers(3, size=200),
        Y=rng.integers(2, size=200).astype(float),
        propensity=np.full(3, 1 / 3),
        messages=("a", "b"),
        unit=np.arange(200) // 2,
        spends=(0.5,),
    )
    truth = np.column_stack([rng.normal(size=200), np.ones(200)])
    return replace(made, truth=Truth(truth, truth, np.eye(2)), points=1.0)


def test_both_halves_of_a_split_judge_every_voter_once_and_cut_no_unit(small) -> None:
    trained = [split.trained for split in halves(small, 3)]
    assert (trained[0] ^ trained[1]).all()
    units = [set(small.test.unit[side]) for side in trained]
    assert not units[0] & units[1]
    other = halves(small, 4)[0]
    assert (other.trained != trained[0]).any()
    assert other.cached("x").name != halves(small, 3)[0].cached("x").name


def test_a_slow_tool_runs_on_as_many_splits_as_it_has_time_for(small) -> None:
    # 200 voters × one covariate × two messages squared are 800
    slow, fast = Peer("a", "a", "main", "a", 2_000), Peer("b", "b", "main", "b")
    assert slow.splits_of(small) == 2
    assert replace(slow, most_work=799).splits_of(small) == 0
    assert fast.splits_of(small) > 1_000


def test_the_bayesian_forests_draws_become_lifts_and_their_ends(monkeypatch) -> None:
    class BCFModel:
        def sample(self, *, Z_train, y_train, **_: object) -> None:
            self.n_messages = Z_train.shape[1]
            assert set(np.unique(Z_train.sum(axis=1))) == {0.0, 1.0}
            assert not np.isnan(y_train).any()

        def predict(self, *, X, **_: object) -> np.ndarray:
            draws = X[:, :1] + np.arange(101) / 100
            # one message comes without an axis of its own
            by_message = [draws + m for m in range(self.n_messages)]
            return draws if self.n_messages == 1 else np.stack(by_message, axis=2)

    monkeypatch.setitem(
        sys.modules, "stochtree", types.SimpleNamespace(BCFModel=BCFModel)
    )
    monkeypatch.setattr(fit_peer, "BLOCK_ROWS", 2)
    X_eval = np.array([[0.0], [1.0], [2.0]])
    for n_messages in (1, 3):
        arm = np.arange(12) % (n_messages + 1)
        asked = fit_peer.Asked(
            np.ones((12, 1)), arm, np.ones(12), np.ones((12, n_messages + 1)), X_eval,
            1, 1,
        )  # fmt: skip
        answer = fit_peer.stochtree_bcf(asked)()
        expected = X_eval + np.arange(n_messages)
        assert answer.lift == pytest.approx(expected + 0.5)
        assert answer.low == pytest.approx(expected + 0.025)
        assert answer.high == pytest.approx(expected + 0.975)


def test_the_fingerprint_tells_any_change_of_the_data(small) -> None:
    Y = small.test.Y.copy()
    Y[7] = 1 - Y[7]
    assert replace(small, test=replace(small.test, Y=Y)).fingerprint != (
        small.fingerprint
    )
    assert replace(small).fingerprint == small.fingerprint


def test_the_markdown_shows_the_figures_that_the_json_holds(small, tmp_path) -> None:
    rng, truth = np.random.default_rng(9), small.truth.lift
    scores, held = scored(truth + rng.normal(size=truth.shape)), small.test.unit % 2 > 0
    lifts = {
        MINE: truth + rng.normal(size=truth.shape),
        NO_TARGETING: np.tile([0.2, 1.0], (200, 1)),
        NEXT: truth + rng.normal(size=truth.shape),
        **dict.fromkeys(REFERENCES, truth),
    }
    found = {
        name: tuple(
            judge(
                lift[side], scores[side], small.cost, small.test.unit[side],
                small.spends,
                against_truth(
                    lift[side], truth[side], small.cost, small.spends, flat=[1]
                ),
            )
            for side in (held, ~held)
        )
        for name, lift in lifts.items()
    }  # fmt: skip
    standing = Standing((verdict(found, [held, ~held], small.test.cluster),))
    seen = table.Seen(small, standing, {NO_TARGETING: (1.0, 0.5, 2.0)}, {"x": "broke"})
    left_out = {"absent": "no table"}
    tables = table.as_json(
        iter([seen]), command="this", made_on="2026-11-03", left_out=left_out,
        partial=True,
    )  # fmt: skip
    table.write(tables, tmp_path / "peers")
    text = (tmp_path / "peers.md").read_text()
    stored = json.loads((tmp_path / "peers.json").read_text())
    figures = stored["tasks"]["small"]["tools"]
    gain = figures[NEXT]["gain"]["gain_at_0.5"]
    assert f"{gain['value']:.2f} ({gain['se']:.2f})" in text
    known = figures[REFERENCES[0]]["against_truth"]
    assert known["share"] == pytest.approx([1.0, 1.0])
    # the lead of a simulated task is the true one
    lead = known["gained"][0] - figures[NO_TARGETING]["against_truth"]["gained"][0]
    assert figures[REFERENCES[0]]["lead"]["gain_at_0.5"] == pytest.approx(
        lead, abs=1e-4
    )
    assert figures[NO_TARGETING]["against_truth"]["slope"] is None
    assert list(known["flat_spread"]) == ["b"]
    assert "Made on 2026-11-03 by `this`" in text
    assert "absent: no table" in text
    assert "**Partial" in text
    # the first figures of its row are the shares of all that is possible
    truth_row = text.split("## Against the truth of the worlds")[1]
    assert f"| {REFERENCES[0]} | 1 | 1.00 | 1.00 | 0.00 |" in truth_row
    assert stored["tasks"]["small"]["hash"] == small.fingerprint
    line = table.in_one_line(tables)
    assert line.startswith(f"1 tasks; {MINE}: mean rank")
    assert f"worlds, less {NEXT}" in line


def test_the_samples_lifts_are_the_sum_of_its_groups() -> None:
    made = _sample(n_voters=500, n_messages=12, seed=3)
    summed = made.truth.groups @ made.truth.weights
    assert np.allclose(summed, made.truth.lift, atol=1e-5)
    assert made.flat == ("health_hospital", "schools_trades")
    flat = [made.test.messages.index(m) for m in made.flat]
    assert made.truth.lift[:, flat].std(axis=0).max() < 1e-9
    assert made.truth.lift.std(axis=0).max() > 1.0
