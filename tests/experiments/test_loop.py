from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import (
    Campaign,
    CampaignError,
    load_campaign,
    parse_campaign,
)
from hustings.experiments.loop.decisions import EXPLORE, HOLDOUT, PLAN, Audience, State
from hustings.experiments.loop.declared import wave_size
from hustings.experiments.loop.explore import (
    Exploring,
    share_on,
    thompson_odds,
    uniform_odds,
)
from hustings.experiments.loop.gate import gain_of_personalising, pays
from hustings.experiments.loop.one_day import Learned, LoopTerms, learn, one_day
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.simulation import coverage, rival_policies
from hustings.experiments.simulation.month import (
    Played,
    digest,
    judge_months,
    month_terms,
    play,
    replayed,
    run_month,
    simulated_world,
    told_text,
)
from hustings.experiments.simulation.world import World
from hustings.features.training_set import Arm
from hustings.training.estimators.metrics import Interval
from hustings.training.learners.daily import Moments, Seen, Terms, fit_daily
from hustings.training.measured_lift.adaptive import decided_propensities

N = 2_400


@pytest.fixture(scope="module")
def campaign() -> Campaign:
    """The shipped month, five days and four messages of it."""
    found = load_campaign("30_days")
    assert found.loop is not None
    assert found.simulate is not None
    loop = {
        "wave_voters": 700, "wave_days": 1, "wait_days": 1, "outcome_first_days": 1,
        "outcome_last_days": 2,
    }  # fmt: skip
    return found.model_copy(
        update={
            "plan": found.plan.model_copy(update={"days": 5}),
            "loop": found.loop.model_copy(update=loop),
            "simulate": found.simulate.model_copy(update={"n_messages": 3}),
            "features": found.features.model_copy(
                update={"columns": ["age", "party", "homeowner"]}
            ),
        }
    )


@pytest.fixture(scope="module")
def world(campaign: Campaign) -> World:
    return simulated_world(campaign, seed=5, n_voters=N)


@pytest.fixture(scope="module")
def terms(campaign: Campaign, world: World) -> LoopTerms:
    return month_terms(campaign, world, seed=5)


@pytest.fixture(scope="module")
def played(world: World, terms: LoopTerms) -> Played:
    return play(world, terms)


def test_money_is_never_exceeded_and_nobody_is_decided_twice(
    world: World, terms: LoopTerms, played: Played
) -> None:
    made = played.state.decisions
    assert len(np.unique(made.voter)) == len(made)
    assert played.state.spent_usd(world.audience.cost) <= terms.budget_usd + 1e-6
    spent = [day.spent_usd for day in played.days]
    assert spent[0] > 0
    # it waits for answers, then sends
    assert spent[1] == 0
    assert all(s > 0 for s in spent[2:])


def test_the_holdout_is_planned_as_a_shadow_and_sent_nothing(
    world: World, played: Played
) -> None:
    made = played.state.decisions
    held = world.audience.held[made.voter]
    assert (made.role[held] == HOLDOUT).all()
    assert (made.arm[held] == 0).all()
    assert (made.intended[held] >= 0).all()
    assert held.sum() > 20
    assert (made.role[~held] != HOLDOUT).all()


def test_every_decision_has_the_declared_chance(
    terms: LoopTerms, played: Played
) -> None:
    made, h = played.state.decisions, terms.holdout_share
    assert made.design.sum(axis=1) == pytest.approx(np.ones(len(made)))
    free = np.ones(terms.days + 1)
    for record in played.days:
        free[record.day + 1] = free[record.day] * (1 - record.explore)
    eps = np.array([record.explore for record in played.days])[made.day]
    assert made.propensity[made.role == HOLDOUT] == pytest.approx(h)
    planned = made.role == PLAN
    expected = (1 - h) * free[made.day] * (1 - eps)
    assert made.propensity[planned] == pytest.approx(expected[planned])
    # what was drawn had the odds of the day: nothing and three arms alike
    explored = made.role == EXPLORE
    alike = (1 - h) * free[made.day] * eps / 4
    assert np.median(made.propensity[explored] / alike[explored]) == pytest.approx(1.0)


def test_what_was_assigned_has_the_frequency_that_its_design_says() -> None:
    """Many lots over one pool: observed less expected, in standard errors."""
    n, arms = 60, (Arm("a", "mail"), Arm("b", "mail"))
    rng = np.random.default_rng(1)
    phi = np.column_stack([np.ones(n), rng.normal(size=n)])
    columns = Terms(np.array([-1, 0]), np.array([False, False]))
    arm = rng.integers(0, 3, n)
    # the one for most, the other for some: what the plan sends hangs on the voter
    Y = np.column_stack([np.zeros(n), 3 + phi[:, 1], 3 - phi[:, 1]])[np.arange(n), arm]
    model = fit_daily(
        Moments.nothing(2, 2).plus(Seen(phi, arm, Y, np.full((n, 3), 1 / 3))), columns
    )
    ids = np.array([f"v{i}" for i in range(n)], dtype=object)
    off, spread = np.zeros(3), np.zeros(3)
    for seed in range(80):
        held = np.random.default_rng([seed, 9]).random(n) < 0.2
        audience = Audience(
            ids, np.arange(n), phi, np.zeros(n, dtype=np.int64), held,
            np.ones((n, 2), dtype=bool), arms, np.ones(2),
        )  # fmt: skip
        loop = LoopTerms(
            "s", seed, 0.2, 120.0, pd.Timestamp("2026-09-01"), 10,
            Exploring(share=0.4), retrain_every_days=99,
        )  # fmt: skip
        state = State.new(audience)
        known = Learned(model, Moments.nothing(2, 2), np.zeros(0, dtype=bool), 0, 0)
        for day in range(3):
            state = one_day(loop, columns, audience, state, known, day=day).state
        made = state.decisions
        mine = made.take(made.intended >= 0)
        own = mine.intended + 1
        # nothing, what was intended, the other arm
        order = np.column_stack([np.zeros_like(own), own, 3 - own])
        chance = np.take_along_axis(mine.design, order, axis=1)
        off += ((mine.arm[:, None] == order) - chance).sum(axis=0)
        spread += (chance * (1 - chance)).sum(axis=0)
    assert np.abs(off / np.sqrt(spread)).max() < 3.5


def test_a_day_computed_again_is_the_same_day(world: World, terms: LoopTerms) -> None:
    state, audience = State.new(world.audience), world.audience
    new = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    one, two = (
        one_day(terms, world.columns, audience, state, new, day=0).decisions
        for _ in range(2)
    )
    assert digest(one) == digest(two)
    other = replace(terms, seed=terms.seed + 1)
    again = one_day(other, world.columns, audience, state, new, day=0).decisions
    assert digest(again) != digest(one)


def test_the_ledger_replays_to_the_same_days_and_finds_an_altered_past(
    world: World, terms: LoopTerms, tmp_path: Any
) -> None:
    ledger = open_ledger(tmp_path)
    played = play(world, terms, ledger, days=4)
    assert replayed(world, terms, ledger, played)
    made = played.state.decisions
    arm = made.arm.copy()
    arm[(made.day == 0) & (arm > 0)] = 1
    altered = replace(
        played, state=replace(played.state, decisions=replace(made, arm=arm))
    )
    assert not replayed(world, terms, ledger, altered)


def test_only_outcomes_that_are_in_teach(world: World, terms: LoopTerms) -> None:
    audience = world.audience
    new = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    day = one_day(terms, world.columns, audience, State.new(audience), new, day=0)
    early, late = world.hear(day.state, 1), world.hear(day.state, 2)
    n_early, n_late = (int(np.isfinite(s.outcome).sum()) for s in (early, late))
    assert 0 < n_early < n_late < len(late.outcome)
    taught = [
        learn(new, s, audience, world.columns, repeats="first", day=2).moments.n
        for s in (early, late)
    ]
    assert taught == [n_early, n_late]


def test_an_outcome_counts_once(world: World, terms: LoopTerms) -> None:
    audience = world.audience
    new = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    day = one_day(terms, world.columns, audience, State.new(audience), new, day=0)
    heard = world.hear(day.state, 9)
    with pytest.raises(ValueError, match="expected outcomes of decisions without one"):
        heard.told(np.flatnonzero(np.isfinite(heard.outcome))[:1], np.ones(1))
    once = learn(new, heard, audience, world.columns, repeats="first", day=2)
    twice = learn(once, heard, audience, world.columns, repeats="first", day=3)
    assert twice.moments.n == once.moments.n


def test_a_voter_comes_back_after_the_window_and_repeats_do_not_teach(
    world: World, terms: LoopTerms
) -> None:
    audience = world.audience
    again = replace(terms, window_days=3, contacts_per_voter=2, days=6)
    made = play(world, again).state
    days = pd.DataFrame({"voter": made.decisions.voter, "day": made.decisions.day})
    gap = days.groupby("voter")["day"].diff().dropna()
    assert len(gap) > 0
    assert gap.min() >= 3
    assert days.groupby("voter").size().max() == 2
    heard = world.hear(made, 99)
    assert (heard.decisions.repeat[heard.teaching("first")] == 0).all()
    assert heard.teaching("each").sum() > heard.teaching("first").sum()
    assert made.spent_usd(audience.cost) <= again.budget_usd + 1e-6


def test_thompson_odds_keep_the_floor_and_favour_what_is_believed_best() -> None:
    rng = np.random.default_rng(2)
    n = 3_000
    phi = np.ones((n, 1))
    arm = rng.integers(0, 4, n)
    Y = np.array([0.0, 3.0, 0.0, 0.0])[arm] + rng.normal(size=n)
    model = fit_daily(
        Moments.nothing(1, 3).plus(Seen(phi, arm, Y, np.full((n, 4), 0.25))),
        Terms(np.array([-1]), np.array([False])),
    )
    allowed = np.ones((n, 3), dtype=bool)
    allowed[: n // 2, 0] = False
    segment = np.zeros(n, dtype=np.int64)
    odds = thompson_odds(model, phi, segment, allowed, floor=0.05, rng=rng)
    nothing = 1 - odds.sum(axis=1)
    assert odds[allowed].min() >= 0.05 - 1e-12
    assert nothing.min() >= 0.05 - 1e-12
    assert (odds[~allowed] == 0).all()
    assert odds[-1, 0] > 0.8
    with pytest.raises(ValueError, match="explore_floor"):
        thompson_odds(model, phi, segment, allowed, floor=0.3, rng=rng)


def test_a_month_of_thompson_keeps_its_chances(world: World, terms: LoopTerms) -> None:
    drawn = replace(terms, exploring=Exploring("thompson", 0.3, floor=0.05))
    made = play(world, drawn).state.decisions
    later = (made.role == EXPLORE) & (made.day >= 2)
    assert later.sum() > 10
    odds = made.design[later & (made.intended < 0)]
    assert len(odds) == 0 or odds.min() >= 0.05 - 1e-9
    assert made.design.sum(axis=1) == pytest.approx(np.ones(len(made)))


def test_uniform_odds_are_even_over_what_is_allowed() -> None:
    allowed = np.array([[True, True, False], [False, False, False]])
    assert uniform_odds(allowed).tolist() == [[1 / 3, 1 / 3, 0], [0, 0, 0]]
    policy = Exploring(share=0.2, half_life_days=2.0, least_share=0.06)
    assert [share_on(policy, d) for d in (0, 2, 4)] == [0.2, 0.1, 0.06]


def test_who_explores_without_a_plan_has_the_odds_alone() -> None:
    # by hand: h .1, nobody drawn before, ε .5, odds a half each
    q = np.array([[0.5, 0.5], [0.5, 0.5]])
    found, _ = decided_propensities(
        np.array([0, 1]), q, holdout=0.1, survival=np.ones(2), epsilon=np.full(2, 0.5)
    )
    assert found == pytest.approx(np.array([[0.5, 0.5], [0.325, 0.675]]))


def test_where_personalising_is_not_shown_to_pay_people_are_drawn_at_random(
    world: World, terms: LoopTerms, played: Played
) -> None:
    state = world.hear(played.state, 3)
    kept = state.decisions.day < 3
    before = replace(
        state, decisions=state.decisions.take(kept), outcome=state.outcome[kept]
    )
    audience = world.audience
    new = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    flat, own = (
        one_day(
            terms, world.columns, audience, before, new, day=3, personalise=personal
        ).decisions
        for personal in (False, True)
    )
    planned = flat.role == PLAN
    assert len(np.unique(flat.intended[planned])) == 1
    # age drives the lifts, and has nothing to do with who is drawn
    age = audience.phi[:, 1]
    assert abs(age[flat.voter[planned]].mean() - age.mean()) < 0.3 * age.std()
    assert digest(flat) != digest(own)


def test_the_verdict_is_personal_only_where_lifts_differ(campaign: Campaign) -> None:
    drawn = campaign.simulate
    assert drawn is not None
    null = campaign.model_copy(
        update={"simulate": drawn.model_copy(update={"null_twin": True})}
    )
    gains = {}
    for name, declared in (("planted", campaign), ("null", null)):
        world = simulated_world(declared, seed=5, n_voters=9_000)
        terms = replace(
            month_terms(declared, world, seed=5), wave_voters=9_000, wave_days=1
        )
        # three times as far apart, so that one wave can show it
        lift = world.lift + 3.0 * (world.lift - world.lift.mean(axis=0))
        world = replace(world, lift=np.clip(lift, -30, 30))
        wave = play(world, terms, days=1).state
        gains[name] = gain_of_personalising(
            world.hear(wave, 9), world.audience, world.columns, spend=0.3,
            repeats="first",
        )  # fmt: skip
    assert pays(gains["planted"], attempt=3)
    assert not pays(gains["null"], attempt=1)
    assert not pays(None, attempt=1)
    # the same evidence does not pass once the alpha is spent
    weak = Interval.of(1.0, se=0.4)
    assert pays(weak, attempt=1)
    assert not pays(weak, attempt=5)


def test_until_it_is_shown_the_month_is_untargeted(
    world: World, terms: LoopTerms
) -> None:
    gated = replace(terms, gate="verdict", evaluate_every_days=1)
    made = play(world, gated, days=4).state.decisions
    planned = made.intended[made.intended >= 0]
    assert len(planned) > 50
    assert len(np.unique(planned[made.day[made.intended >= 0] == 3])) == 1


def test_a_prior_plans_the_first_day_where_there_is_no_wave(
    world: World, terms: LoopTerms
) -> None:
    from hustings.features.training_set import Prior

    audience = world.audience
    none = replace(terms, wave_voters=0, wave_days=1, wait_days=0)
    new = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    idle = one_day(none, world.columns, audience, State.new(audience), new, day=0)
    assert idle.record.n_sent == 0
    prior = Prior(np.array([0.5, 3.0, np.nan]), np.array([0.2, 0.2, np.nan]))
    told = one_day(
        none, world.columns, audience, State.new(audience), new, day=0, prior=prior
    ).decisions
    assert set(told.intended[told.role == PLAN]) == {1}


def test_a_month_is_judged_by_the_truth(campaign: Campaign, tmp_path: Any) -> None:
    month = run_month(campaign, seed=7, home=tmp_path, n_voters=N)
    assert month.replays
    assert month.gain["oracle"] >= max(month.gain.values())
    found = judge_months([month, month], replayed_seeds=2)
    assert found["regret"]["loop"]["mean"] == pytest.approx(
        month.gain["oracle"] - month.gain["loop"]
    )
    assert found["n_replayed_alike"] == 2
    assert "2 months" in told_text(found)


def test_intervals_are_judged_against_the_truth_of_the_same_people(
    world: World, played: Played
) -> None:
    heard = world.hear(played.state, 99)
    stated = coverage.ours(heard, world, "first")
    made = heard.decisions
    arm = made.intended
    whole = stated["campaign"].truth[0]
    lifts = world.lift[made.voter[arm >= 0], arm[arm >= 0]]
    assert lifts.min() < whole < lifts.max()
    assert abs(stated["campaign"].value[0] - whole) < 5 * stated["campaign"].se[0]


def test_the_oracle_is_never_beaten_and_chance_is_worse(
    world: World, terms: LoopTerms
) -> None:
    best = rival_policies.oracle_gain(world, terms)
    chance = rival_policies.true_gain(world, rival_policies.anything(world, terms))
    assert best > 1.5 * chance > 0


def test_the_first_wave_is_as_large_as_pays() -> None:
    loop = load_campaign("30_days").loop
    assert loop is not None
    assert loop.believed_spread is not None
    unsure = loop.model_copy(update={"believed_spread": 3 * loop.believed_spread})
    sizes = [wave_size(x, n_arms=8, n_audience=12_000) for x in (loop, unsure)]
    assert 0 < sizes[0] < 12_000
    assert (
        wave_size(loop.model_copy(update={"wave_voters": 77}), n_arms=8, n_audience=9)
        == 77
    )


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("wave_days = 3", "wave_days = 3\nwindow_days = 7", "contacts_per_voter"),
        ("believed_lift = 2.0", "wave_voters = 10\nbelieved_lift = 2.0", "wave_voters"),
        ("explore_least_share = 0.02", "explore_least_share = 0.0", "above 0"),
        ("explore_least_share = 0.02", "explore_least_share = 0.5", "at or below"),
        ("outcome_last_days = 6", "outcome_last_days = 1", "outcome_first_days"),
        ('explore = "uniform"', 'explore = "greedy"', "explore"),
    ],
)
def test_a_wrong_loop_is_refused_with_its_line(old: str, new: str, told: str) -> None:
    text = load_campaign("30_days").file.read_text()
    assert old in text
    with pytest.raises(CampaignError, match=told) as failure:
        parse_campaign(text.replace(old, new))
    assert "[loop]" in str(failure.value)
    assert "line" in str(failure.value)


def test_a_campaign_without_a_loop_says_what_is_missing() -> None:
    with pytest.raises(CampaignError, match=r"\[loop\]"):
        simulated_world(load_campaign("2006_mailers"), seed=1)
