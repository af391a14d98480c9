"""The public Python API, on data frames: what the commands give, it gives."""

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import estimator_checks

import hustings
from hustings import Campaign, LiftModel, measured_lift, plan, power
from hustings.experiments.plans.designs import is_decided
from hustings.experiments.stages import models
from tests.story import Story

N = 3_000
COST, BUDGET = 0.5, 750.0


def drawn(n: int = N, *, apart: float = 1.0) -> dict[str, Any]:
    """A test of two messages whose lifts differ by party and age, as frames."""
    rng = np.random.default_rng(3)
    X = pd.DataFrame(
        {
            "age": rng.uniform(18, 90, n).round(),
            "party": rng.choice(["D", "R", "N"], n),
            "urban": rng.random(n) < 0.4,
        },
        index=[f"v{i}" for i in range(n)],
    )
    X.loc[X.index[::50], "age"] = np.nan
    arm = rng.choice(["control", "health", "jobs"], n, p=[0.4, 0.3, 0.3])
    jobs = apart * 0.3 * (X["party"] == "D") - apart * 0.1 * (X["party"] == "R")
    health = apart * 0.25 * (X["age"] > 60) - apart * 0.1 * (X["age"] < 40)
    chance = 0.4 + np.where(arm == "jobs", jobs, np.where(arm == "health", health, 0.0))
    y = (rng.random(n) < chance).astype(float)
    return {"X": X, "arm": arm, "y": y, "propensity": {"health": 0.3, "jobs": 0.3}}


@pytest.fixture(scope="module")
def frames() -> dict[str, Any]:
    return drawn()


@pytest.fixture(scope="module")
def fitted(frames: dict[str, Any], one_thread: None) -> LiftModel:  # noqa: ARG001
    return LiftModel(n_trials=1).fit(**frames)


@pytest.fixture(scope="module")
def verdict(fitted: LiftModel) -> Any:
    return fitted.evaluate(COST, budget=BUDGET, segment=["party"])


# --- the same as the commands ---


def test_the_verdict_on_a_campaign_s_training_set_is_the_command_s(
    story: Story,
) -> None:
    run = story.run
    materials = models._materials(run)
    ((name, test),) = materials.tests.items()
    market = models._market(run, materials, test)
    rows, outcome = run.read("training_set"), run.campaign.outcome
    model = LiftModel(
        n_trials=run.n_trials, issue_of=materials.issue_of,
        outcome_range=outcome.improving_range, unit_per_point=outcome.unit_per_point,
        outcome=outcome.label, random_state=run.campaign.campaign.seed,
    )  # fmt: skip
    model.fit(
        run.read("features"), rows["message_id"], rows["outcome"],
        propensity=test.propensities, cluster=rows["household_id"],
        channel=rows["channel"], block=rows["block"], voter_id=rows["voter_id"],
        arms=[tuple(arm) for arm in test.arms],
    )  # fmt: skip
    judged = model.evaluate(
        {tuple(arm): usd for arm, usd in zip(test.arms, market.cost, strict=True)},
        spend_per_voter=market.spend, allowed=market.allowed,
        segment=["age", "sex", "history_share"],
    ).to_json()  # fmt: skip
    stored = run.read_json("evaluation")["experiments"][name]
    for key in ("verdict", "champion", "best_baseline", "gate", "n_voters", "n_arms"):
        assert judged[key] == stored[key], key
    # of the policies of campaigns that predict turnout and support nothing decides
    of_campaigns = {"likely_persuadable"}
    assert set(stored["policies"]) - set(judged["policies"]) == of_campaigns
    for policy, difference in judged["differences"].items():
        assert difference == pytest.approx(stored["differences"][policy], rel=1e-6)
    for own, of_run in zip(judged["messages"], stored["messages"], strict=True):
        assert own["effect"] == pytest.approx(of_run["effect"], rel=1e-6)


def test_the_lifts_of_a_campaign_s_voters_are_its_scores(story: Story) -> None:
    folder = Campaign.open(story.folder, data=story.run.home.parent)
    scores = folder.scores()
    stored = story.run.read("scores")
    message = scores["message_id"].iloc[0]
    of_message = scores[scores["message_id"] == message]
    assert of_message["lift"].to_numpy() == pytest.approx(stored[f"lift__{message}"])
    assert (scores["low"] < scores["lift"]).all()
    assert len(scores) == story.run.n_voters() * scores["message_id"].nunique()
    ((name, verdict),) = folder.results().items()
    assert verdict.sentence == story.run.read_json("evaluation")["headline"]["sentence"]
    assert verdict.policies["policy"].tolist() == list(
        story.run.read_json("evaluation")["experiments"][name]["policies"]
    )
    assert len(folder.plan()) == len(story.run.read("plan"))
    with pytest.raises(FileNotFoundError, match=r"lift\.parquet.*`hustings lift`"):
        folder.lift()
    assert repr(folder).startswith("Campaign('spread'")


def test_a_campaign_that_never_ran_says_which_command_runs_it(tmp_path: Path) -> None:
    folder = Campaign.open("persuasion_flyer", data=tmp_path)
    for read in (folder.results, folder.scores):
        with pytest.raises(FileNotFoundError, match="hustings run"):
            read()


# --- learning and judging ---


def test_the_verdict_finds_planted_differences(verdict: Any) -> None:
    assert verdict.verdict == "personalise"
    assert verdict.champion == "personalised"
    assert verdict.n_more_voters is None
    assert "shown already" in verdict.n_more_voters_reason
    table = verdict.policies.set_index("policy")
    assert table.loc["personalised", "gain_low"] > 0
    assert (table["gain_low"] <= table["gain"]).all()
    assert table.loc["best_mix", "added"] == pytest.approx(
        table.loc["personalised", "gain"] - table.loc["best_mix", "gain"]
    )
    assert "segment_best" in table.index
    assert verdict.checks["sample_ratio"]["ok"]
    assert set(verdict.messages["message_id"]) == {"health", "jobs"}


def test_without_differences_it_does_not_pay_and_says_how_many_more_would_tell(
    one_thread: None,  # noqa: ARG001
) -> None:
    model = LiftModel(n_trials=1).fit(**drawn(2_000, apart=0.0))
    verdict = model.evaluate(COST, spend_per_voter=0.2, worthwhile_gain=0.02)
    assert verdict.verdict == "not_worth_personalising"
    assert verdict.n_more_voters > 0
    assert not verdict.n_more_voters_reason
    # a gate that was tried before asks for more
    later = model.evaluate(COST, spend_per_voter=0.2, attempt=4)
    assert later.evaluation.verdict.alpha < verdict.evaluation.verdict.alpha


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"blocked_by": ("attrition",)}, "outcomes go missing at different rates"),
        ({"lacking": ("too few voters",)}, "nothing was learnt: too few voters"),
        ({}, "no policy differs from personalising"),
    ],
)
def test_where_no_number_of_voters_is_given_the_reason_is(
    verdict: Any, changed: dict[str, Any], why: str
) -> None:
    gate = replace(
        verdict.evaluation.verdict, verdict="not_worth_personalising", power=None,
        **changed,
    )  # fmt: skip
    judged = replace(verdict, evaluation=replace(verdict.evaluation, verdict=gate))
    assert judged.n_more_voters is None
    assert why in judged.n_more_voters_reason


def test_lifts_follow_what_was_planted(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    lifts = fitted.lift(frames["X"])
    jobs = lifts[lifts["message_id"] == "jobs"].set_index("voter_id")["lift"]
    party = frames["X"]["party"]
    assert jobs[party == "D"].mean() > jobs[party == "R"].mean() + 0.1
    assert list(lifts.columns) == [
        "voter_id", "message_id", "channel", "lift", "se", "low", "high", "model_id",
    ]  # fmt: skip
    narrow = fitted.lift(frames["X"], level=0.5)
    assert (narrow["high"] - narrow["low"] < lifts["high"] - lifts["low"]).all()


def test_the_tested_get_lifts_from_folds_that_did_not_see_them(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    own = fitted.lift()
    by_cluster = fitted.lift(frames["X"], cluster=frames["X"].index)
    assert own["lift"].to_numpy() == pytest.approx(by_cluster["lift"].to_numpy())
    assert (own["lift"] != fitted.lift(frames["X"])["lift"]).any()


@pytest.mark.parametrize("kind", ["arrow", "polars"])
def test_other_frames_give_the_same_lifts_in_their_own_kind(
    fitted: LiftModel, frames: dict[str, Any], kind: str
) -> None:
    plain = fitted.lift(frames["X"])
    if kind == "arrow":
        table: Any = pa.Table.from_pandas(frames["X"], preserve_index=False)
    else:
        pl = pytest.importorskip("polars", reason="polars is not installed")
        table = pl.from_pandas(frames["X"])
    lifts = fitted.lift(table, voter_id=frames["X"].index)
    assert type(lifts) is type(table)
    assert lifts.to_pandas()["lift"].to_numpy() == pytest.approx(plain["lift"])


def test_an_array_is_a_frame_without_names(
    one_thread: None,  # noqa: ARG001
) -> None:
    given = drawn(1_000)
    X = given["X"][["age", "urban"]].to_numpy(dtype=float)
    two = np.isin(given["arm"], ["control", "jobs"])
    model = LiftModel(n_trials=1, model="linear").fit(
        X[two], given["arm"][two], given["y"][two], propensity=[3 / 7] * two.sum()
    )
    assert list(model.feature_names_in_) == ["x0", "x1"]
    assert len(model.lift(X)) == len(X)


def test_inputs_are_not_changed(fitted: LiftModel, frames: dict[str, Any]) -> None:
    before = pickle.dumps(frames)
    clone(fitted).fit(**frames)
    fitted.lift(frames["X"])
    assert pickle.dumps(frames) == before


def test_the_same_seed_gives_the_same_lifts_and_a_pickle_too(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    lifts = fitted.lift(frames["X"])["lift"].to_numpy()
    again = clone(fitted).fit(**frames)
    assert np.array_equal(again.lift(frames["X"])["lift"], lifts)
    restored = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - our own
    assert np.array_equal(restored.lift(frames["X"])["lift"], lifts)
    assert LiftModel(random_state=None, n_trials=1).fit(**frames).seed_ != 0


def test_chances_that_nobody_gave_are_assumed_and_said(
    frames: dict[str, Any],
) -> None:
    given = {**frames, "propensity": None}
    with pytest.warns(hustings.AssumptionWarning, match="propensity: none was given"):
        model = LiftModel(n_trials=1).fit(**given)
    assert any("none was given" in note for note in model.notes_)
    shares = pd.Series(frames["arm"]).value_counts(normalize=True)
    assert model._test.propensities[0] == pytest.approx(
        shares[["control", "health", "jobs"]]
    )


def test_households_drawn_whole_are_one_draw_and_others_share_noise(
    frames: dict[str, Any],
) -> None:
    homes = np.arange(N) // 2
    whole = {**frames, "arm": np.repeat(frames["arm"][::2], 2)}
    drawn_whole = LiftModel(n_trials=1, model="linear").fit(**whole, cluster=homes)
    assert len(np.unique(drawn_whole._test.drawn)) == N // 2
    apart = LiftModel(n_trials=1, model="linear").fit(**frames, cluster=homes)
    assert len(np.unique(apart._test.drawn)) == N
    assert len(np.unique(apart._test.cluster)) == N // 2
    assert any("arms differ within clusters" in note for note in apart.notes_)


def test_an_arm_that_few_answered_is_set_aside_and_said(
    frames: dict[str, Any],
) -> None:
    arm = frames["arm"].copy()
    arm[:12] = "taxes"
    p = {"health": 0.3, "jobs": 0.3, "taxes": 0.004}
    with pytest.warns(hustings.AssumptionWarning, match="taxes by mail was answered"):
        model = LiftModel(n_trials=1, model="linear").fit(
            **{**frames, "arm": arm, "propensity": p}
        )
    assert model.messages_ == ("health", "jobs")
    assert len(model.lift()) == 2 * (N - 12)


def test_values_that_no_tested_voter_had_are_said(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    strange = frames["X"].head(5).assign(party="Green")
    with pytest.warns(hustings.AssumptionWarning, match="5 voters have a value"):
        fitted.lift(strange)


def wrong(**changed: Any) -> dict[str, Any]:
    return {**drawn(400), **changed}


ROWS = [0.4, 0.3, 0.3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (wrong(arm=["jobs"] * 400), r"arm: expected rows of the control 'control'"),
        (wrong(arm=["control"] * 399), "arm: expected one value of each of the 400"),
        (
            wrong(arm=[None, *["control"] * 200, *["jobs"] * 199]),
            "arm: expected a name in every row, got none in 1 rows, row 0 first",
        ),
        (wrong(y=["yes"] * 400), "y: expected finite numbers, got 'yes' in row 0"),
        (wrong(y=np.full(400, np.inf)), "y: expected finite numbers, got 'inf'"),
        (wrong(propensity={"jobs": 0.3}), "propensity: expected the probability of"),
        (
            wrong(propensity={"jobs": 0.3, "health": 0.3, "taxes": 0.1}),
            "got 'taxes', which nobody was sent",
        ),
        (
            wrong(propensity={"jobs": 0.7, "health": 0.7}),
            "expected probabilities in .0, 1. that sum to 1",
        ),
        (
            wrong(propensity=np.tile(ROWS, (399, 1))),
            r"propensity: expected shape \(400, 3\), columns control, health, jobs",
        ),
        (wrong(propensity=[0.5] * 400), "got one value a voter"),
        (
            wrong(propensity=pd.DataFrame({"jobs": [0.5] * 400})),
            "propensity: expected columns control, health, jobs",
        ),
        (
            wrong(propensity=np.tile([0.4, 0.6, 0.0], (400, 1))),
            "expected one above 0 of what was sent, got 0 of 'jobs'",
        ),
        (wrong(channel="pigeon"), "channel: expected one of mail, sms"),
        (wrong(X="x"), "X: expected a data frame of pandas, Arrow or Polars"),
        (
            wrong(X=pd.DataFrame({"a": [np.inf] * 400})),
            "X: expected finite numbers in column 'a', got inf in row 0",
        ),
        (
            wrong(X=pd.DataFrame({"a": [pd.Timestamp("2026-01-01")] * 400})),
            "X: expected numbers, booleans or categories in column 'a'",
        ),
        (wrong(voter_id=["v"] * 400), "voter_id: expected each voter once"),
        (wrong(arms=["jobs"]), "arms: expected each arm that was sent once"),
        (wrong(y=np.ones(400)), "nothing can be learnt: the outcome"),
        (
            wrong(y=pd.date_range("2026-01-01", periods=400)),
            "y: expected finite numbers, got datetime64",
        ),
        (
            wrong(X=pd.DataFrame([[1, 2]] * 400, columns=["a", "a"])),
            "X: expected each column once, got 'a' twice",
        ),
        (
            wrong(X=pa.table([[1] * 400, [2] * 400], names=["a", "a"])),
            "X: expected each column once, got 'a' twice",
        ),
        (
            wrong(X=pd.DataFrame([[1, 2]] * 400, columns=[1, "1"])),
            "X: expected each column once, got '1' twice",
        ),
        (
            wrong(X=pd.DataFrame({"a": [*range(399), [1]]}, dtype=object)),
            "text in column 'a', got list in row 399 .1 such rows",
        ),
        (
            wrong(X=pd.DataFrame({"a": [*range(399), "x"]}, dtype=object)),
            "column 'a', got both: a number in row 0, text in row 399",
        ),
        (
            wrong(X=pd.DataFrame({"a": [pd.Timedelta("1D")] * 400})),
            "X: expected numbers, booleans or categories in column 'a'",
        ),
        (wrong(propensity={"jobs": "x", "health": 0.3}), "propensity of 'jobs': exp"),
    ],
)
def test_a_wrong_argument_is_named_with_what_was_expected(
    given: dict[str, Any], message: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        LiftModel(n_trials=1).fit(**given)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"model": "forest"},
            "model: expected one of stack, linear, gbm, got 'forest'",
        ),
        ({"n_trials": 0}, "n_trials: expected a whole number, at least 1, got 0"),
        ({"issue_of": {"jobs": "work"}}, "issue_of: expected the issue of every"),
        ({"outcome_range": (0.0, 0.5)}, "outcome_range: expected"),
        ({"outcome_range": (np.nan, 1.0)}, "outcome_range: expected"),
        ({"outcome_range": "01"}, "outcome_range: expected"),
        ({"unit_per_point": 0}, "unit_per_point: expected outcome units above 0"),
        ({"random_state": -1}, "random_state: expected a whole number, at least 0"),
        ({"issue_of": ["work"]}, "issue_of: expected a mapping"),
        ({"control": "nobody"}, r"name yours: LiftModel\(control=...\)"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LiftModel(**settings).fit(**drawn(800))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"cost": 0.5}, "exactly one of budget and spend_per_voter"),
        ({"cost": {"jobs": 1.0}, "budget": 1.0}, "cost: expected a price of message"),
        ({"cost": {"mail": 1.0, "taxes": 2.0}, "budget": 1.0}, "got 'taxes'"),
        ({"cost": -1.0, "budget": 1.0}, "cost: expected USD above 0, got -1.0"),
        ({"cost": 1.0, "budget": 1.0, "segment": ["sex"]}, "segment: expected at most"),
        ({"cost": 1.0, "budget": 1.0, "allowed": [True]}, "allowed: expected true or"),
        ({"cost": 1.0, "budget": 1.0, "attempt": 0}, "attempt: expected"),
        ({"cost": 1.0, "budget": "1"}, "budget: expected USD above 0, got '1'"),
        ({"cost": "low", "budget": 1.0}, "cost: expected USD above 0, got 'low'"),
        (
            {"cost": 1.0, "budget": 1.0, "worthwhile_gain": np.nan},
            "worthwhile_gain: expected outcome units above 0",
        ),
        (
            {"cost": 1.0, "budget": 1.0, "segment": ["party", "party"]},
            "segment: expected at most 3 columns of X .*, each once",
        ),
        (
            {"cost": 1.0, "budget": 1.0, "allowed": pd.DataFrame([[True]])},
            "allowed: expected true or false",
        ),
        ({"cost": 1.0, "budget": 1.0, "confidence": 2}, "confidence: expected"),
    ],
)
def test_a_wrong_price_is_named(
    fitted: LiftModel, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fitted.evaluate(**given)


def test_columns_of_another_frame_are_named(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    other = frames["X"].rename(columns={"age": "years"})
    with pytest.raises(ValueError, match="missing: age; not in fit: years"):
        fitted.lift(other)


def test_text_where_the_tested_had_numbers_is_named(
    small: LiftModel, frames: dict[str, Any]
) -> None:
    X = frames["X"].head(4).astype({"age": object})
    X.iloc[2, 0] = "old"
    with pytest.raises(ValueError, match=r"'age', got both: a number in row 1, text"):
        small.lift(X)
    X["age"] = ["31", None, "old", "40"]
    with pytest.raises(
        ValueError, match=r"'age', in `fit` a number: .* 'old' in row 2"
    ):
        small.lift(X)
    # a number that was written as text, as from a CSV, is one
    X["age"] = ["31", None, "52", "40"]
    numbers = frames["X"].head(4).assign(age=[31, np.nan, 52, 40])
    assert small.lift(X)["lift"].tolist() == small.lift(numbers)["lift"].tolist()


def test_a_level_in_per_cent_is_refused(small: LiftModel) -> None:
    with pytest.raises(ValueError, match=r"level: .* such as \.95 for 95 %, got 95"):
        small.lift(level=95)


def test_messages_may_be_numbers_and_prices_a_series(
    one_thread: None,  # noqa: ARG001
) -> None:
    given = drawn(800)
    code = {"control": 0, "jobs": 1, "health": 2}
    arm = pd.Series(given["arm"]).map(code)
    model = LiftModel(
        n_trials=1, model="linear", control=0, issue_of={1: "work", 2: "care"}
    ).fit(given["X"], arm, given["y"], propensity=pd.Series({1: 0.3, 2: 0.3}))
    assert model.messages_ == ("1", "2")
    assert model._test.propensities[0] == pytest.approx([0.4, 0.3, 0.3])
    by_number = model.evaluate({1: 0.5, 2: 0.4}, budget=200)
    by_text = model.evaluate(pd.Series({"1": 0.5, "2": 0.4}), budget=200)
    assert by_number.to_json() == by_text.to_json()
    with pytest.raises(
        ValueError, match="cost: expected each name once, got '1' twice"
    ):
        model.evaluate({1: 0.5, "1": 0.4, 2: 0.4}, budget=200)


@pytest.mark.parametrize("value", [1.0, np.nan])
def test_a_model_of_features_that_do_not_vary_is_learnt_and_kept(
    value: float,
    one_thread: None,  # noqa: ARG001
) -> None:
    given = drawn(400)
    X = pd.DataFrame({"same": value}, index=given["X"].index)
    model = LiftModel(n_trials=1, model="linear").fit(**{**given, "X": X})
    jobs = model.lift(X)
    jobs = jobs[jobs["message_id"] == "jobs"]
    assert len(set(jobs["lift"])) == 1
    restored = pickle.loads(pickle.dumps(model))  # noqa: S301 - our own
    assert np.array_equal(restored.lift(X)["lift"], model.lift(X)["lift"])


# --- scikit-learn ---


def test_before_fit_it_says_so() -> None:
    for call in (lambda m: m.lift(), lambda m: m.evaluate(1.0, budget=1.0)):
        with pytest.raises(NotFittedError, match="LiftModel instance is not fitted"):
            call(LiftModel())


@pytest.mark.parametrize(
    "check",
    [
        "check_parameters_default_constructible", "check_estimator_cloneable",
        "check_get_params_invariance", "check_set_params", "check_estimator_repr",
        "check_no_attributes_set_in_init", "check_estimator_tags_renamed",
        "check_valid_tag_types", "check_mixin_order",
    ],
)  # fmt: skip
def test_it_keeps_scikit_learn_s_conventions(check: str) -> None:
    """Those of its checks that call no `fit(X, y)`: a test has arms besides."""
    getattr(estimator_checks, check)("LiftModel", LiftModel())


# --- notebooks ---


def test_notebooks_show_tables_and_escape_names(
    fitted: LiftModel, verdict: Any
) -> None:
    assert "<table" in fitted._repr_html_()
    assert "fitted on 3,000 voters" in fitted._repr_html_()
    assert "not fitted" in LiftModel()._repr_html_()
    named = {"jobs": "<b>jobs</b>", "health": "health", "control": "control"}
    given = drawn(800)
    arm = [named[name] for name in given["arm"]]
    unsafe = LiftModel(n_trials=1, model="linear", outcome="<i>votes</i>").fit(
        given["X"], arm, given["y"], propensity={"<b>jobs</b>": 0.3, "health": 0.3}
    )
    contacts = plan(unsafe.lift(), COST, 100, start_on="2026-09-08")
    brought = measured_lift(
        contacts, contacts.assignments[["voter_id"]].assign(value=given["y"]),
        as_of="2026-09-20",
    )  # fmt: skip
    for shown in (unsafe, contacts, brought):
        page = shown._repr_html_()
        assert "&lt;b&gt;jobs&lt;/b&gt;" in page
        assert "<b>" not in page
    assert "&lt;i&gt;votes&lt;/i&gt;" in unsafe._repr_html_()
    page = verdict._repr_html_()
    assert "Personalise" in page
    assert page.count("<tr>") == 1 + len(verdict.policies)
    assert str(verdict).startswith(verdict.sentence)


# --- plan and measured lift ---


@pytest.fixture(scope="module")
def planned(fitted: LiftModel, frames: dict[str, Any], verdict: Any) -> Any:
    return plan(
        fitted.lift(frames["X"]), COST, BUDGET, start_on="2026-09-08", days=2,
        policy=verdict, holdout_share=0.3, name="autumn",
    )  # fmt: skip


def test_a_plan_keeps_budget_and_holdout_and_states_its_chances(planned: Any) -> None:
    assert 0.95 * BUDGET < planned.spent_usd <= BUDGET
    assert planned.contacts["voter_id"].is_unique
    held = planned.assignments["role"] == "holdout"
    assert held.mean() == pytest.approx(0.3, abs=0.03)
    sent = set(planned.contacts["voter_id"])
    assert not sent & set(planned.assignments.loc[held, "voter_id"])
    sums = planned.designs.groupby("block")["probability"].sum()
    assert sums.to_numpy() == pytest.approx(1.0)
    assert planned.summary["n"].sum() == len(planned.contacts)
    assert "<table" in planned._repr_html_()
    assert 0 <= planned.gap < 0.01
    assert "could be predicted to do more than" in str(planned)


def test_where_one_split_suffices_its_two_groups_are_planned(
    one_thread: None,  # noqa: ARG001
) -> None:
    given = drawn()
    of_democrats = given["X"]["party"] == "D"
    rng = np.random.default_rng(1)
    chance = 0.3 + np.where(of_democrats, 0.4, -0.2) * (given["arm"] == "jobs")
    y = (rng.random(N) < chance).astype(float)
    model = LiftModel(n_trials=1).fit(**{**given, "y": y})
    verdict = model.evaluate(COST, budget=BUDGET)
    assert verdict.champion == "one_covariate"
    assert verdict.sentence.startswith("One split suffices (party is D): treating two")
    lifts = model.lift(given["X"], policy=verdict)
    jobs = lifts[lifts["message_id"] == "jobs"].set_index("voter_id")["lift"]
    assert jobs.nunique() == 2
    assert jobs[of_democrats].min() > jobs[~of_democrats].max()
    contacts = plan(
        lifts, COST, 400, start_on="2026-09-08", policy=verdict, explore_share=0.0
    ).contacts
    assert set(contacts["voter_id"]) <= set(given["X"].index[of_democrats])
    personal = model.lift(given["X"])
    with pytest.raises(ValueError, match=r"model\.lift\(X, policy=verdict\)"):
        plan(personal, COST, 400, start_on="2026-09-08", policy=verdict)


@pytest.fixture(scope="module")
def small(one_thread: None) -> LiftModel:  # noqa: ARG001
    """A model that costs little, of 800 voters."""
    return LiftModel(n_trials=1, model="linear").fit(**drawn(800))


def test_a_verdict_on_another_model_is_refused(
    fitted: LiftModel, small: LiftModel, verdict: Any, frames: dict[str, Any]
) -> None:
    assert clone(small).fit(**drawn(800)).model_id_ == small.model_id_
    with pytest.raises(ValueError, match="policy: expected a verdict of this model's"):
        small.lift(policy=verdict)
    where = {"start_on": "2026-09-08", "policy": verdict}
    with pytest.raises(ValueError, match="policy: expected a verdict on the model of"):
        plan(small.lift(), COST, BUDGET, **where)
    unnamed = fitted.lift(frames["X"]).drop(columns="model_id")
    with pytest.raises(ValueError, match="lifts: expected the column model_id"):
        plan(unnamed, COST, BUDGET, **where)


def test_a_verdict_of_a_campaign_is_no_policy_of_a_plan(
    story: Story, small: LiftModel
) -> None:
    folder = Campaign.open(story.folder, data=story.run.home.parent)
    (of_campaign,) = folder.results().values()
    with pytest.raises(ValueError, match=r"this model's .* got one on a campaign"):
        small.lift(policy=of_campaign)
    with pytest.raises(ValueError, match="policy: expected a verdict of `LiftModel"):
        plan(small.lift(), COST, 100, start_on="2026-09-08", policy=of_campaign)


def test_a_plan_that_would_hold_out_nobody_is_refused(small: LiftModel) -> None:
    lifts = small.lift()
    few = lifts[lifts["voter_id"].isin([f"v{i}" for i in range(3)])]
    with pytest.raises(ValueError, match=r"of 3 voters \(3 drawn apart\) .* nobody"):
        plan(few, COST, 100, start_on="2026-09-08", holdout_share=0.01)


def test_a_plan_of_what_is_not_allowed_sends_it_to_nobody(
    fitted: LiftModel, frames: dict[str, Any]
) -> None:
    lifts = fitted.lift(frames["X"])
    homes = np.arange(N) // 2
    limited = plan(
        lifts, {"jobs": 0.5, "health": 0.4}, BUDGET, start_on="2026-09-08",
        allowed=lifts["message_id"] != "jobs", cluster=homes, explore_share=0.0,
        capacity={"mail": 300}, confidence=0.6, random_state=4,
    )  # fmt: skip
    assert set(limited.contacts["message_id"]) == {"health"}
    assert len(limited.contacts) <= 300
    held = limited.assignments.set_index("voter_id")["role"] == "holdout"
    by_home = held.loc[frames["X"].index].groupby(homes).nunique()
    assert (by_home == 1).all()


def test_the_measured_lift_of_a_plan_covers_the_truth(planned: Any) -> None:
    rng = np.random.default_rng(0)
    rows = planned.assignments
    sent = (rows["message_id"] != "control").to_numpy()
    before, noise = rng.normal(size=(2, len(rows)))
    outcomes = pd.DataFrame(
        {"voter_id": rows["voter_id"], "value": before + 0.5 * noise + 0.5 * sent}
    )
    prior = outcomes[["voter_id"]].assign(before=before)
    groups = outcomes[["voter_id"]].assign(segment=np.where(rows.index % 2, "a", "b"))
    lift = measured_lift(
        planned, pa.Table.from_pandas(outcomes), as_of="2026-09-20", features=prior,
        segment=groups,
    )  # fmt: skip
    overall = lift.lifts.iloc[0]
    assert overall["estimand"] == "delivered"
    assert overall["always_low"] < 0.5 < overall["always_high"]
    assert lift.trusted
    assert set(lift.lifts["segment"]) == {"", "a", "b"}
    assert "More than chance" in str(lift)
    assert "<table" in lift._repr_html_()
    # with answers that are not due yet nothing is known
    early = measured_lift(
        planned, outcomes, as_of="2026-09-10", lag_days=30, horizon_days=5,
        absent="zero", unit_per_point=0.01, random_state=1,
    )  # fmt: skip
    assert early.lifts.empty
    assert "is not due yet" in str(early)


def test_outcomes_that_are_not_used_are_counted_with_their_reason(
    planned: Any,
) -> None:
    every = planned.assignments
    ids = every.loc[is_decided(every), "voter_id"].reset_index(drop=True)
    n, (bystander, *_) = len(ids), every.loc[~is_decided(every), "voter_id"]
    whole = pd.DataFrame({"voter_id": ids, "value": np.arange(n) % 2})
    whole["observed_on"] = "2026-09-12"
    assert measured_lift(planned, whole, as_of="2026-09-20").notes == ()
    rest = pd.DataFrame(
        {
            "voter_id": ["stranger", bystander, None, " ", *ids[:5]],
            "value": [1.0, 1.0, 1.0, 1.0, None, 1.0, 0.0, 1.0, 1.0],
            "observed_on": [
                "2026-09-12", "2026-09-12", "2026-09-12", "2026-09-12", "2026-09-12",
                # at the very moment the same again; later, too late, and too early
                "2026-09-12T02:00+02:00", "2026-09-14", "2026-09-21", "2026-09-07",
            ],
        }
    )  # fmt: skip
    lift = measured_lift(planned, pd.concat([whole, rest]), as_of="2026-09-20")
    counted = {note.split(" rows ")[1]: note.split()[1] for note in lift.notes}
    assert counted == {
        "name no voter; they are not used": "2",
        "are of nobody in the plans; they are not used": "1",
        "are of voters of the plans who were neither chosen nor drawn; they are not "
        "used": "1",
        "have no value; they are not used": "1",
        "came after 2026-09-20 00:00, when it is looked at; they are not used": "1",
        "came before the voter was decided; they are not used": "1",
        "say again what another row says; they are not used": "1",
        "are earlier answers of voters who answered again; they are not used": "1",
    }
    assert all(note in lift._repr_html_() and note in str(lift) for note in lift.notes)
    assert all(f" of {n + len(rest):,} rows " in note for note in lift.notes)


def test_two_outcomes_of_a_voter_at_one_moment_are_refused(planned: Any) -> None:
    ids = planned.assignments["voter_id"]
    once = pd.DataFrame({"voter_id": ids, "value": 1.0})
    twice = pd.concat([once, once.iloc[[5]].assign(value=0.0)])
    expected = rf"got 1 in row 5 and 0 in row {len(ids)} of the same voter \(2 such"
    with pytest.raises(ValueError, match=expected):
        measured_lift(planned, twice, as_of="2026-09-20")


def test_ids_that_are_numbers_are_the_same_voters_as_text_or_with_gaps(
    small: LiftModel,
) -> None:
    X = drawn(800)["X"].reset_index(drop=True)
    contacts = plan(small.lift(X), COST, 100, start_on="2026-09-08")
    every = contacts.assignments
    ids = every.loc[is_decided(every), "voter_id"].astype(int)
    of_all = pd.DataFrame({"voter_id": [*ids, None], "value": 1.0})
    assert of_all["voter_id"].dtype == np.float64
    (note,) = measured_lift(contacts, of_all, as_of="2026-09-20").notes
    assert note.startswith(f"outcomes: 1 of {len(of_all):,} rows name no voter")


def test_a_point_is_of_the_outcome_where_nobody_says(planned: Any) -> None:
    rows = pd.DataFrame({"voter_id": planned.assignments["voter_id"], "value": 1.0})
    assert measured_lift(planned, rows, as_of="2026-09-20").unit_per_point == 0.01
    rows["value"] = np.arange(len(rows))
    assert measured_lift(planned, rows, as_of="2026-09-20").unit_per_point == 1.0


def test_times_with_a_zone_are_read_as_utc(planned: Any) -> None:
    every = planned.assignments
    rows = every.loc[is_decided(every), ["voter_id"]].assign(value=1.0)
    # half an hour before midnight in UTC
    rows["observed_on"] = pd.Timestamp("2026-09-20T01:30+02:00")
    lift = measured_lift(
        planned, rows, as_of=pd.Timestamp("2026-09-19T23:30", tz="UTC")
    )
    assert not lift.notes
    assert lift.measured.as_of == pd.Timestamp("2026-09-19T23:30")
    early = pd.Timestamp("2026-09-20T01:29+02:00")
    (note,) = measured_lift(planned, rows, as_of=early).notes
    assert "came after 2026-09-19 23:29" in note


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"as_of": None}, "as_of: expected a day or moment"),
        ({"as_of": "2026-09-07"}, "as_of: expected a moment from 2026-09-08 on"),
        ({"lag_days": -1}, "lag_days: expected a whole number, at least 0, got -1"),
        ({"horizon_days": 0}, "horizon_days: expected a whole number, at least 1"),
        ({"unit_per_point": 0}, "unit_per_point: expected outcome units above 0"),
        ({"random_state": None}, "random_state: expected a whole number"),
        ({"absent": "none"}, "absent: expected 'missing' or 'zero'"),
        (
            {"segment": pd.DataFrame({"voter_id": ["v1"] * 2, "segment": ["a", "b"]})},
            "segment: expected each voter once, got one again in row 1",
        ),
        (
            {"features": pd.DataFrame({"voter_id": ["v1", "v1"], "age": [1, 2]})},
            "features: expected each voter once, got one again in row 1",
        ),
        (
            {"features": pd.DataFrame({"voter_id": [None], "age": [1]})},
            "features, voter_id: expected a name in every row",
        ),
    ],
)  # fmt: skip
def test_a_wrong_argument_of_measuring_is_named(
    planned: Any, changed: dict[str, Any], message: str
) -> None:
    rows = pd.DataFrame({"voter_id": planned.assignments["voter_id"], "value": 1.0})
    with pytest.raises(ValueError, match=message):
        measured_lift(planned, rows, **{"as_of": "2026-09-20", **changed})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start_on": None}, "start_on: expected a day or moment"),
        (
            {"start_on": pd.Timestamp("2026-09-08", tz="Europe/Berlin")},
            "start_on: expected a day without a time zone",
        ),
        ({"budget": "100"}, "budget: expected USD above 0, got '100'"),
        ({"capacity": {"mail": "30"}}, "capacity of 'mail': expected contacts a day"),
        ({"capacity": {"pigeon": 3}}, "capacity: expected channels"),
        ({"random_state": None}, "random_state: expected a whole number"),
        ({"days": 1.5}, "days: expected a whole number, at least 1, got 1.5"),
        ({"holdout_share": np.nan}, "holdout_share: expected one in"),
        ({"explore_share": 0.95}, "together below 1"),
        ({"confidence": 95}, "confidence: expected one in"),
    ],
)
def test_a_wrong_argument_of_a_plan_is_named(
    small: LiftModel, changed: dict[str, Any], message: str
) -> None:
    given = {"budget": 100, "start_on": "2026-09-08", **changed}
    with pytest.raises(ValueError, match=message):
        plan(small.lift(), COST, **given)


def test_wrong_lifts_are_named_with_their_row(small: LiftModel) -> None:
    lifts = small.lift()
    for changed, message in (
        (lifts.assign(se=-lifts["se"]), "lifts, se: expected numbers from 0, got -"),
        (
            lifts.assign(lift="x"),
            "lifts, lift: expected finite numbers, got 'x' in row",
        ),
        (lifts.head(0), "lifts: expected a row for each voter and arm, got none"),
        (lifts.assign(voter_id=None), "lifts, voter_id: expected a name in every row"),
    ):
        with pytest.raises(ValueError, match=message):
            plan(changed, COST, 100, start_on="2026-09-08")


def test_whole_numbers_of_numpy_are_whole_numbers(small: LiftModel) -> None:
    two = np.int64(2)
    lifts = clone(small).set_params(n_trials=np.int64(1)).fit(**drawn(800)).lift()
    assert lifts["lift"].tolist() == small.lift()["lift"].tolist()
    contacts = plan(
        lifts, np.float64(COST), np.int64(100), start_on="2026-09-08", days=two,
        random_state=two,
    )  # fmt: skip
    assert contacts.contacts["send_on"].nunique() <= 2
    assert power(1.0, np.int64(256), np.int64(256)) == power(1.0, 256, 256)


def test_wrong_plans_and_outcomes_are_named(
    fitted: LiftModel, frames: dict[str, Any], planned: Any
) -> None:
    lifts = fitted.lift(frames["X"])
    with pytest.raises(ValueError, match="lifts: expected columns voter_id"):
        plan(lifts.drop(columns="se"), COST, BUDGET, start_on="2026-09-08")
    with pytest.raises(ValueError, match="lifts: expected one row for each of 3,000"):
        plan(lifts.iloc[1:], COST, BUDGET, start_on="2026-09-08")
    with pytest.raises(ValueError, match="a holdout is always kept"):
        plan(lifts, COST, BUDGET, start_on="2026-09-08", holdout_share=0.0)
    with pytest.raises(ValueError, match="budget: expected USD above 0, got 0"):
        plan(lifts, COST, 0, start_on="2026-09-08")
    with pytest.raises(ValueError, match="outcomes: expected columns voter_id, value"):
        measured_lift(planned, frames["X"], as_of="2026-09-20")
    strangers = pd.DataFrame({"voter_id": ["x"], "value": [1.0]})
    with pytest.raises(ValueError, match="expected voters whom the plans decided"):
        measured_lift(planned, strangers, as_of="2026-09-20")
    outcomes = pd.DataFrame({"voter_id": planned.assignments["voter_id"], "value": 1.0})
    with pytest.raises(ValueError, match="a name and first day of its own"):
        measured_lift([planned, planned], outcomes, as_of="2026-09-20")


# --- power ---


def test_power_is_lehr_s_rule_and_grows_with_noise() -> None:
    result = power(1.0, 256, 256, lift=0.25)
    assert result.detectable_lift == pytest.approx(0.248, abs=0.001)  # 16 σ² / δ²
    assert result.power == pytest.approx(0.8, abs=0.01)
    assert result.n_voters == pytest.approx(512, rel=0.02)
    noisy = power(
        np.random.default_rng(0).normal(size=5_000), 256, 256, n_messages=4,
        daily_looks=True, household_size=2.0, household_correlation=0.5,
        missing_share=0.2,
    )  # fmt: skip
    assert noisy.detectable_lift > 1.5 * result.detectable_lift
    assert noisy.power is None
    with pytest.raises(
        ValueError, match="n_control: expected a whole number, at least 1"
    ):
        power(1.0, 10, 0)


def test_every_public_name_is_there_and_no_other() -> None:
    for name in hustings.__all__:
        assert getattr(hustings, name) is not None
        assert name in dir(hustings)
    with pytest.raises(AttributeError, match="no attribute 'Lift'"):
        hustings.Lift  # noqa: B018 - the lookup is what is tested
