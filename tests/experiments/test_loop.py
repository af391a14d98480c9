"""The loop's parts: what is declared, odds, the gate, the state before a day."""

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import (
    CampaignError,
    LoopSection,
    load_campaign,
    parse_campaign,
)
from hustings.experiments.loop.answered import Answered
from hustings.experiments.loop.daily_columns import learner_columns
from hustings.experiments.loop.declared import loop_settings, wave_size
from hustings.experiments.loop.explore import share_on, thompson_odds, uniform_odds
from hustings.experiments.loop.gate import (
    Gate,
    Look,
    evidence_of,
    gain_of_personalising,
    gate_of,
    gate_on,
)
from hustings.experiments.loop.moments import learned, sized_after
from hustings.features.arrays import Floats
from hustings.training.estimators.anytime_valid import ALPHA
from hustings.training.learners.daily import Moments, ObservedRows, Size, fit_daily
from hustings.training.measured_lift.adaptive import decided_propensities

# --- what is declared -----------------------------------------------------------------


def test_the_first_wave_is_as_large_as_pays() -> None:
    loop = load_campaign("30_days").loop
    assert loop is not None
    assert loop.believed_spread is not None
    unsure = loop.model_copy(update={"believed_spread": 3 * loop.believed_spread})
    sizes = [
        wave_size(x, is_tested=False, n_arms=8, n_contacts=12_000)
        for x in (loop, unsure)
    ]
    assert 0 < sizes[0] < 12_000
    declared = loop.model_copy(update={"wave_voters": 77})
    for is_tested in (False, True):
        assert wave_size(declared, is_tested=is_tested, n_arms=8, n_contacts=9) == 77
    # a test says what a wave would
    assert wave_size(loop, is_tested=True, n_arms=8, n_contacts=12_000) == 0


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("wave_days = 3", "wave_days = 3\nwindow_days = 7", "contacts_per_voter"),
        ("outcome_sd = 16.0", "", "outcome_sd"),
        ("explore_least_share = 0.02", "explore_least_share = 0.0", "above 0"),
        ("explore_least_share = 0.02", "explore_least_share = 0.5", "at or below"),
        ("outcome_last_days = 6", "outcome_last_days = 1", "outcome_first_days"),
        ('explore = "uniform"', 'explore = "greedy"', "explore"),
    ],
)
def test_a_wrong_loop_is_refused_with_its_line(old: str, new: str, fault: str) -> None:
    text = load_campaign("30_days").file.read_text()
    assert old in text
    with pytest.raises(CampaignError, match=fault) as failure:
        parse_campaign(text.replace(old, new))
    assert "[loop]" in str(failure.value)
    assert "line" in str(failure.value)


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("learn_from", 'learner = "daily"', 'learner = "champion"'),
        ("gate", 'learn_from = "all"', "learner_gate"),
        (
            "evaluate_every_days",
            "wave_days = 3",
            "wave_days = 3\nevaluate_every_days = 2",
        ),
        ("explore_floor", "wave_days = 3", "wave_days = 3\nexplore_floor = 0.05"),
        ("repeats", 'repeats = "first"', 'repeats = "each"'),
    ],
)
def test_a_key_that_the_learner_does_not_read_is_refused_with_its_line(
    key: str, old: str, new: str
) -> None:
    text = load_campaign("30_days").file.read_text()
    if new == "learner_gate":
        text = text.replace('learner = "daily"', 'learner = "champion"')
        text = "\n".join(x for x in text.splitlines() if not x.startswith("learn_from"))
    else:
        assert old in text
        text = text.replace(old, new)
    with pytest.raises(CampaignError) as failure:
        parse_campaign(text)
    lines = text.splitlines()
    at = next(k for k, x in enumerate(lines, start=1) if x.startswith(f"{key} ="))
    assert f"[loop].{key} (line {at})" in str(failure.value)


def test_a_wave_that_nobody_sends_is_refused() -> None:
    with pytest.raises(ValueError, match="expected no wait_days without a first wave"):
        LoopSection(channels=["mail"], wave_voters=0, wait_days=2)


def test_tests_may_be_absent_only_where_a_wave_is_declared() -> None:
    text = load_campaign("30_days").file.read_text()
    assert "tables.designs" not in text
    kept = [
        line for line in text.splitlines()
        if not line.startswith(("believed_", "outcome_sd", "wave_days", "wait_days"))
    ]  # fmt: skip
    with pytest.raises(CampaignError, match=r"expected a section \[tables.designs\]"):
        parse_campaign("\n".join(kept))


def test_lifts_are_learned_on_the_declared_days() -> None:
    campaign = load_campaign("30_days")
    assert campaign.loop is not None
    loop = campaign.loop.model_copy(update={"retrain_every_days": 4})
    terms = loop_settings(
        campaign.model_copy(update={"loop": loop}), n_voters=1_000, n_arms=8,
        mean_cost_usd=0.6,
    )  # fmt: skip
    # three days of the wave and three that wait: day 6 is the first
    assert [terms.learned_on(day) for day in range(6, 12)] == [6, 6, 6, 6, 10, 10]
    assert [terms.phase(day) for day in (0, 2, 3, 5, 6)] == [
        "wave", "wave", "waits", "waits", "sends"
    ]  # fmt: skip
    # by hand: 300 USD, half spent, 20 days left
    assert terms.money_on(150.0, 10) == pytest.approx(7.5)


# --- odds -----------------------------------------------------------------------------


def test_thompson_odds_keep_the_floor_and_favour_what_is_believed_best() -> None:
    rng = np.random.default_rng(2)
    n = 3_000
    drawn = rng.normal([3.0, 0.0, 0.0], 0.5, size=(400, 1, 3))
    allowed = np.ones((n, 3), dtype=bool)
    allowed[: n // 2, 0] = False
    segment = np.zeros(n, dtype=np.int64)
    odds = thompson_odds(drawn, segment, allowed, floor=0.05)
    nothing = 1 - odds.sum(axis=1)
    assert odds[allowed].min() >= 0.05 - 1e-12
    assert nothing.min() >= 0.05 - 1e-12
    assert (odds[~allowed] == 0).all()
    assert odds[-1, 0] > 0.8
    with pytest.raises(ValueError, match="explore_floor"):
        thompson_odds(drawn, segment, allowed, floor=0.3)


def test_uniform_odds_are_even_over_what_is_allowed() -> None:
    allowed = np.array([[True, True, False], [False, False, False]])
    assert uniform_odds(allowed).tolist() == [[1 / 3, 1 / 3, 0], [0, 0, 0]]
    loop = LoopSection(
        channels=["mail"], wave_voters=0, explore_share=0.2, explore_half_life_days=2.0,
        explore_least_share=0.06,
    )  # fmt: skip
    assert [share_on(loop, d) for d in (0, 2, 4)] == [0.2, 0.1, 0.06]


def test_who_explores_without_a_plan_has_the_odds_alone() -> None:
    # by hand: h .1, nobody drawn before, ε .5, odds a half each
    q = np.array([[0.5, 0.5], [0.5, 0.5]])
    found, _ = decided_propensities(
        np.array([0, 1]), q, holdout=0.1, survival=np.ones(2), epsilon=np.full(2, 0.5)
    )
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.325, 0.675]]))


# --- learning -------------------------------------------------------------------------


def electorate(n: int, rng: np.random.Generator) -> pd.DataFrame:
    """Voters of two features; two to a household."""
    ids = [f"v{i}" for i in range(n)]
    return pd.DataFrame(
        {"voter_id": ids, "age": rng.integers(18, 90, n).astype(float),
         "income_usd": rng.normal(50, 10, n)}
    )  # fmt: skip


def decisions(
    n: int, lift: Floats, rng: np.random.Generator, *, days: int = 4
) -> Answered:
    """Randomised decisions over some days, a third of each arm and of nothing.

    Args:
        n: Voters, each decided once.
        lift: True lift of every arm, shape (n, 2).
        rng: Chance.
        days: Days on which they are decided, and answer a day later.
    """
    arm = rng.integers(0, 3, n)
    family = np.repeat(rng.normal(size=(n + 1) // 2), 2)[:n]
    noise = np.sqrt(0.2) * family + np.sqrt(0.8) * rng.normal(size=n)
    got = np.column_stack([np.zeros(n), lift])[np.arange(n), arm]
    day = np.datetime64("2026-09-08", "us") + np.timedelta64(1, "D") * (
        rng.permutation(n) % days
    )
    return Answered(
        voter=np.arange(n), on=day, arm=arm, intended=np.zeros(n, dtype=np.int64),
        propensities=np.full((n, 3), 1 / 3), Y=got + 2.0 * noise,
        answered_at=day + np.timedelta64(1, "D"), is_loop=np.ones(n, dtype=bool),
        nth=np.zeros(n, dtype=np.int64), n_left=0,
    )  # fmt: skip


def test_learning_day_by_day_comes_to_the_same_bits_as_learning_at_once() -> None:
    rng = np.random.default_rng(3)
    voters = electorate(900, rng)
    columns = learner_columns(
        voters, ["age", "income_usd"], n_arms=2, as_of=pd.Timestamp("2026-09-08")
    )
    answered = decisions(900, np.full((900, 2), 0.5), rng)
    terms = {"repeats": "first", "learn_from": "design", "prior": None}
    means = []
    for until in np.unique(answered.answered_at):
        so_far = answered.take(answered.answered_at <= until)
        model, n = learned(so_far, columns, **terms)  # type: ignore[arg-type]
        assert model is not None
        assert n == len(so_far)
        means.append(model.mean)
    # another process begins anew: other columns are never gone on from
    again = columns._replace(phi=columns.phi.copy())
    model, _ = learned(answered, again, **terms)  # type: ignore[arg-type]
    assert model is not None
    assert model.mean.tolist() == means[-1].tolist()


def test_sizes_of_the_prior_are_weighed_anew_where_outcomes_have_grown() -> None:
    assert sized_after([10]) == 1
    # powers of 1.25: 86.7, 108.4, 135.5
    assert sized_after([100, 101, 102]) == 1
    assert sized_after([100, 110, 120]) == 2


def test_repeats_and_what_is_unknown_teach_by_the_declared_rule() -> None:
    rng = np.random.default_rng(4)
    answered = decisions(6, np.zeros((6, 2)), rng)
    nth, Y = np.array([0, 0, 0, 0, 1, 1]), answered.Y.copy()
    Y[[0, 5]] = np.nan
    answered = Answered(**{**vars(answered), "nth": nth, "Y": Y})
    assert np.flatnonzero(answered.teaching("first")).tolist() == [1, 2, 3]
    assert np.flatnonzero(answered.teaching("each")).tolist() == [1, 2, 3, 4]


# --- the gate -------------------------------------------------------------------------


def test_evidence_is_an_e_process_by_hand() -> None:
    looks = [Look("2026-09-14", 1.0, 0.5, 600), Look("2026-09-21", 0.5, 0.5, 600)]
    # precisions 4 and 4: z = (4 + 2) / √8, information 2 of 4 planned looks
    r = 0.126
    z, v = 6 / np.sqrt(8), 2 / 4
    expected = np.sqrt(r / (v + r)) * np.exp(z**2 * v / (2 * (v + r)))
    assert evidence_of(looks, 4) == pytest.approx(expected, rel=0.01)
    below = [Look("2026-09-14", -3.0, 0.5, 600)]
    assert evidence_of(below, 4) == 0.0
    gate = gate_of([Look("2026-09-14", 4.0, 0.5, 600), *below * 9], planned_looks=4)
    assert gate.personalises
    assert Gate.from_json(gate.to_json()) == gate


def months_that_promote(
    n_months: int, spread: float, *, n_looks: int = 4, n: int = 2_400
) -> float:
    """Share of months in which the gate ever says that personalising pays.

    Args:
        n_months: Months.
        spread: Points that the two arms differ by between the young and the old.
        n_looks: Looks of a month, each after as many new outcomes.
        n: Voters of a month.
    """
    promoted = 0
    for month in range(n_months):
        rng = np.random.default_rng([7, month])
        voters = electorate(n, rng)
        columns = learner_columns(
            voters, ["age", "income_usd"], n_arms=2, as_of=pd.Timestamp("2026-09-08")
        )
        old = np.where(voters["age"] > voters["age"].median(), 1.0, -1.0)
        lift = 0.5 + spread * np.column_stack([old, -old])
        answered = decisions(n, lift, rng, days=n_looks)
        looks: list[Look] = []
        for at in np.unique(answered.answered_at):
            so_far = answered.take(answered.answered_at <= at)
            since = pd.Timestamp(looks[-1].at) if looks else None
            gain = gain_of_personalising(
                so_far, columns, np.arange(n) // 2, cost=np.ones(2), spend_usd=0.5,
                since=since,
            )  # fmt: skip
            assert gain is not None
            interval, judged = gain
            looks.append(
                Look(str(pd.Timestamp(at)), interval.value, interval.se, judged)
            )
        promoted += gate_of(looks, planned_looks=n_looks).personalises
    return promoted / n_months


def test_a_look_is_taken_on_the_declared_days_alone() -> None:
    campaign = load_campaign("30_days")
    assert campaign.loop is not None
    changed = {"gate": "verdict", "evaluate_every_days": 3}
    loop = campaign.loop.model_copy(update=changed)
    terms = loop_settings(
        campaign.model_copy(update={"loop": loop}), n_voters=1_500, n_arms=2,
        mean_cost_usd=1.0,
    )  # fmt: skip
    rng = np.random.default_rng(9)
    columns = learner_columns(
        electorate(1_500, rng), ["age", "income_usd"], n_arms=2,
        as_of=pd.Timestamp("2026-09-08"),
    )  # fmt: skip
    answered = decisions(1_500, np.zeros((1_500, 2)), rng)
    looks: tuple[Look, ...] = ()
    taken = []
    for day in range(6, 11):
        gate = gate_on(
            looks, answered, columns, household=np.arange(1_500) // 2, cost=np.ones(2),
            spend_usd=0.5, settings=terms, day=day,
            at=pd.Timestamp("2026-09-14", tz="UTC"),
        )  # fmt: skip
        taken.append(len(gate.looks) - len(looks))
        looks = gate.looks
    # on the ninth day no outcome is new, so nothing is judged
    assert taken == [1, 0, 0, 0, 0]
    later = gate_on(
        looks, answered, columns, household=np.arange(1_500) // 2, cost=np.ones(2),
        spend_usd=0.5, settings=terms, day=9, at=pd.Timestamp("2026-09-20", tz="UTC"),
    )  # fmt: skip
    assert later.looks == looks
    earlier = (Look("2026-09-09T00:00:00", 0.0, 1.0, 600),)
    again = gate_on(
        earlier, answered, columns, household=np.arange(1_500) // 2, cost=np.ones(2),
        spend_usd=0.5, settings=terms, day=9, at=pd.Timestamp("2026-09-20", tz="UTC"),
    )  # fmt: skip
    assert len(again.looks) == 2


@pytest.mark.parametrize("n_months", [60, pytest.param(200, marks=pytest.mark.slow)])
def test_a_month_without_heterogeneity_is_promoted_in_one_of_twenty_at_most(
    n_months: int,
) -> None:
    assert months_that_promote(n_months, 0.0) <= ALPHA


def test_a_month_whose_lifts_differ_is_promoted() -> None:
    assert months_that_promote(10, 0.6) >= 0.8


def test_a_prior_stands_in_for_outcomes() -> None:
    from hustings.features.training_set import EffectPrior

    rng = np.random.default_rng(5)
    columns = learner_columns(
        electorate(300, rng), ["age", "income_usd"], n_arms=2,
        as_of=pd.Timestamp("2026-09-08"),
    )  # fmt: skip
    nobody = decisions(300, np.zeros((300, 2)), rng).take(np.zeros(300, dtype=bool))
    prior = EffectPrior(np.array([0.5, 3.0]), np.array([0.2, 0.2]))
    terms = {"repeats": "first", "learn_from": "design"}
    none, _ = learned(nobody, columns, prior=None, **terms)  # type: ignore[arg-type]
    assert none is None
    model, n = learned(nobody, columns, prior=prior, **terms)  # type: ignore[arg-type]
    assert n == 0
    assert model is not None
    assert (model.lift(columns.phi).argmax(axis=1) == 1).all()


def test_standard_errors_are_those_of_the_posterior() -> None:
    rng = np.random.default_rng(6)
    columns = learner_columns(
        electorate(60, rng), ["age", "income_usd"], n_arms=2,
        as_of=pd.Timestamp("2026-09-08"),
    )  # fmt: skip
    answered = decisions(60, np.zeros((60, 2)), rng)
    seen = ObservedRows(columns.phi, answered.arm, answered.Y, answered.propensities)
    model = fit_daily(
        Moments.nothing(columns.phi.shape[1], 2).plus(seen), columns.terms,
        sizes=[Size(0.25, 0.1)],
    )  # fmt: skip
    (posterior,) = model.posteriors
    covariance = np.linalg.inv(posterior.factor @ posterior.factor.T)
    p = model.p
    for a in range(2):
        block = covariance[(1 + a) * p : (2 + a) * p, (1 + a) * p : (2 + a) * p]
        variance = np.einsum("np,pq,nq->n", columns.phi, block, columns.phi)
        assert model.se(columns.phi)[:, a] == pytest.approx(np.sqrt(variance))
