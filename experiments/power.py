"""Power of a campaign: detectable lift by holdout, its cost, the share to explore."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from hustings.experiments.declaration import Campaign, CampaignError
from hustings.experiments.loop.declared import believed_noise, declared_loop
from hustings.experiments.report.power_page import PowerPage
from hustings.experiments.results import Detectable, RecommendedHoldout
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.external_priors import prior_of_past_tests
from hustings.features.tables import CONTROL, TEST_TABLES
from hustings.features.training_set import household
from hustings.training.estimators.compliance import contrast
from hustings.training.learners.average_effects import USUAL_EFFECT, shrink
from hustings.training.learners.priors import prior_of
from hustings.training.measured_lift.power import (
    Beliefs,
    ClaimCertainty,
    HoldoutSplit,
    Noise,
    best_split,
    detectable_lift,
    first_wave,
    power_of,
    splits,
    voters_needed,
)

Json = dict[str, Any]

ENOUGH = 0.8
"""Chance of being seen that a holdout has to give the lift that is believed."""
HOLDOUTS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
WAVES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)
MOST_LISTED = 8
"""Messages of a test that are listed one by one."""
UNKNOWN_SPREAD = 0.1
"""SD of unknown lifts about zero, in SD of the outcome: nine of ten field effects are
smaller."""


@dataclass(frozen=True)
class PowerFacts:
    """Facts of a campaign before it spends.

    Attributes:
        n_audience: Voters who may be contacted, the holdout included.
        n_contacts: Contacts that money and channels allow over all days, at most the
            audience less the holdout.
        n_affordable: Contacts that money and channels allow, at most the audience.
        days: Number of days with contacts.
        lag_days: Days from a contact to its outcome.
        cost_usd: Mean price of a contact.
        noise: Of the outcome.
        beliefs: Of the messages' lifts.
        source: Where beliefs and noise come from, in words.
    """

    n_audience: int
    n_contacts: int
    n_affordable: int
    days: int
    lag_days: int
    cost_usd: float
    noise: Noise
    beliefs: Beliefs
    source: str


class Power(NamedTuple):
    """Holdouts, exploration and first wave compared before spending.

    Attributes:
        facts: Facts that the figures are computed from.
        holdouts: One row for each holdout share.
        recommended: Which of them to declare.
        splits: One row for each share and number of days of exploring.
        best: The split with the largest expected gain.
        wave: The first randomised wave where nothing has been tested.
        wave_power_n: Voters of a wave in which a lift of the size that is believed
            would be seen, of each message apart.
    """

    facts: PowerFacts
    holdouts: list[Detectable]
    recommended: RecommendedHoldout
    splits: list[HoldoutSplit]
    best: HoldoutSplit
    wave: HoldoutSplit
    wave_power_n: int


def power(
    facts: PowerFacts, *, holdouts: tuple[float, ...] = HOLDOUTS, seed: int
) -> Power:
    """Compute detectable lifts, splits of exploration and the first wave.

    Args:
        facts: Facts of the campaign.
        holdouts: Holdout shares to compare.
        seed: Seed of the random draws.
    """
    m = len(facts.beliefs.mean)
    compared = splits(
        facts.beliefs, facts.noise, contacts_per_day=facts.n_contacts / facts.days,
        days=facts.days, lag_days=facts.lag_days, seed=seed,
    )  # fmt: skip
    sizes = np.array([int(share * facts.n_contacts) for share in WAVES])
    wave = first_wave(
        untested(facts.beliefs), facts.noise, n_audience=facts.n_contacts, sizes=sizes,
        seed=seed,
    )  # fmt: skip
    spread = np.sqrt(facts.beliefs.mean**2 + np.diag(facts.beliefs.covariance)).mean()
    # a message and nothing are each a half of what one comparison needs
    pair = voters_needed(float(spread), facts.noise, 0.5, ClaimCertainty(n_claims=m))
    rows = [_detectable(facts, h) for h in holdouts]
    return Power(
        facts, rows, recommended_holdout(rows), compared, best_split(compared), wave,
        pair * (m + 1) // 2,
    )  # fmt: skip


def recommended_holdout(rows: Sequence[Detectable]) -> RecommendedHoldout:
    """The smallest holdout that is enough, else the one that sees most.

    Enough is a holdout by which the lift that is believed is seen at the end in 4 of 5
    campaigns: each voter more who is held out is not sent what the plan has for them.

    Args:
        rows: At least one, of different shares.
    """
    enough = [row for row in rows if row.power >= ENOUGH]
    if enough:
        row = min(enough, key=lambda one: one.holdout_share)
        smallest = "the smallest of those compared by which"
        seen = f"is seen at the end with a chance of {100 * row.power:.0f} %"
        return RecommendedHoldout(
            row.holdout_share, is_enough=True,
            why=f"{smallest} the lift that is believed {seen}",
        )  # fmt: skip
    row = max(rows, key=lambda one: (one.power, -one.holdout_share))
    return RecommendedHoldout(
        row.holdout_share, is_enough=False,
        why="none of those compared shows the lift that is believed in 4 of 5 "
        f"campaigns; this one comes nearest, with a chance of {100 * row.power:.0f} %: "
        "more contacts, or several campaigns together, would show it",
    )  # fmt: skip


def untested(beliefs: Beliefs) -> Beliefs:
    """Beliefs about as many messages of the same kind, none of them tested.

    All get the same prior, with the mean and the spread of the believed lifts.
    """
    variance = beliefs.mean.var() + np.diag(beliefs.covariance).mean()
    return Beliefs.exchangeable(
        len(beliefs.mean), mean=float(beliefs.mean.mean()), sd=float(np.sqrt(variance))
    )


def _detectable(facts: PowerFacts, share: float) -> Detectable:
    n, m = facts.n_affordable, len(facts.beliefs.mean)
    # the plan chooses n / (1 − h) voters, of whom the held out are not sent
    chosen = min(n / (1 - share), facts.n_audience)
    sent, held = chosen * (1 - share), chosen * share
    once, daily = (
        detectable_lift(facts.noise, sent, held, ClaimCertainty(looks=looks))
        for looks in (False, True)
    )
    each = ClaimCertainty(n_claims=m, looks=True)
    by_message = detectable_lift(facts.noise, sent / m, held / m, each)
    lift = max(float(facts.beliefs.mean.max()), 0.0)
    # of the n voters who would be contacted without a holdout, a share h is held out;
    # the money for them goes to the next voters, as far as there are any
    of_held_out, of_others = n * share * lift, (sent - n * (1 - share)) * lift
    return Detectable(
        share,
        int(sent),
        int(held),
        once,
        daily,
        by_message,
        power_of(lift, facts.noise, sent, held, ClaimCertainty()),
        of_held_out,
        of_others,
        of_held_out - of_others,
        (n - sent) * facts.cost_usd,
    )


# --- from the files of a campaign ---


def facts_of(run: Run) -> PowerFacts:
    """Facts from the latest run: noise and lifts from its tests, money and days.

    Before any test, lifts and noise are those that [loop] declares. After one that did
    not try the messages, beliefs come from the `priors` table. A message that is not in
    the table gets a prior with mean zero and an SD of `UNKNOWN_SPREAD` times the
    outcome's SD.

    Raises:
        CampaignError: If there is no test and [loop] declares no beliefs.
    """
    campaign, voters = run.campaign, run.table("voters")
    rows = run.optional("training_set")
    if rows is None:
        noise, beliefs, source = _declared(run, voters)
    else:
        noise = noise_of(rows, voters)
        beliefs, source = _beliefs(run, rows, noise)
    cost = float(run.table("costs")["cost_usd"].mean())
    plan = campaign.plan
    budget = plan.budget_usd
    if budget is None:
        assert plan.spend_per_voter_usd is not None
        budget = plan.spend_per_voter_usd * len(voters)
    affordable = len(voters) if cost <= 0 else int(budget / cost)
    per_day = plan.capacity_per_day
    room = affordable if per_day is None else min(affordable, per_day * plan.days)
    return PowerFacts(
        n_audience=len(voters),
        n_contacts=max(min(room, int(len(voters) * (1 - plan.holdout_share))), 1),
        n_affordable=max(min(room, len(voters)), 1),
        days=plan.days,
        lag_days=campaign.lift.lag_days,
        cost_usd=cost,
        noise=noise,
        beliefs=beliefs,
        source=source,
    )


def _declared(run: Run, voters: pd.DataFrame) -> tuple[Noise, Beliefs, str]:
    """Noise and beliefs of [loop], for a campaign that nothing was tested for.

    Raises:
        CampaignError: If the campaign has a test that was not read yet, or no [loop].
    """
    if set(TEST_TABLES) <= set(run.campaign.tables):
        raise CampaignError(
            f"{run.folder}: expected the training set of the campaign's own test, got "
            "none; `hustings features` makes it, and `hustings run`"
        )
    loop = declared_loop(run.campaign)
    noise = replace(believed_noise(loop), household=_household_size(voters))
    messages = set(run.table("messages")["message_id"]) - {CONTROL}
    assert loop.believed_lift is not None
    assert loop.believed_spread is not None
    beliefs = Beliefs.exchangeable(
        len(messages), mean=loop.believed_lift, sd=loop.believed_spread
    )
    return noise, beliefs, "what [loop] declares"


def _household_size(voters: pd.DataFrame) -> float:
    """Mean size of a voter's household, each counted by its voters."""
    living = household(voters).value_counts().to_numpy(dtype=np.float64)
    return float((living**2).sum() / living.sum())


def noise_of(rows: pd.DataFrame, voters: pd.DataFrame) -> Noise:
    """Standard deviation, household correlation and missing share of an outcome.

    Estimated on the controls, or on all rows where there are none.

    Args:
        rows: Training set: voter_id, household_id, message_id, outcome.
        voters: VOTERS.
    """
    control = rows[rows["message_id"] == CONTROL]
    control = control if len(control) else rows
    Y = control["outcome"].to_numpy(dtype=np.float64)
    seen = ~np.isnan(Y)
    home = pd.factorize(control["household_id"])[0][seen]
    off = Y[seen] - Y[seen].mean()
    size = np.bincount(home)[home]
    totals = np.bincount(home, weights=off)
    pairs = float((size - 1).sum())
    within = float((totals**2).sum() - (off**2).sum())
    icc = within / pairs / float(off.var()) if pairs else 0.0
    return Noise(
        float(off.std()),
        household=_household_size(voters),
        icc=float(np.clip(icc, 0.0, 1.0)),
        missing=float(1 - seen.mean()),
    )


def _beliefs(run: Run, rows: pd.DataFrame, noise: Noise) -> tuple[Beliefs, str]:
    messages = tuple(sorted(set(run.table("messages")["message_id"]) - {CONTROL}))
    tested = _tested(rows, messages)
    if tested is not None:
        return tested, "the campaign's own tests, shrunken"
    table = run.optional("priors")
    prior = None if table is None else prior_of(table, messages)
    prior = prior or prior_of_past_tests(run, messages)
    unknown = (UNKNOWN_SPREAD * noise.sd) ** 2
    if prior is None:
        beliefs = Beliefs(np.zeros(len(messages)), unknown * np.eye(len(messages)))
        return beliefs, "nothing: lifts are taken to lie about nil"
    has_prior = np.isfinite(prior.mean)
    mean = np.where(has_prior, prior.mean, 0.0)
    return (
        Beliefs(mean, np.diag(np.where(has_prior, prior.variance, unknown))),
        f"priors of {int(has_prior.sum())} of {len(messages)} messages",
    )


def _tested(rows: pd.DataFrame, messages: tuple[str, ...]) -> Beliefs | None:
    """Posterior of every message by its test; None where none has enough people."""
    seen = rows[rows["outcome"].notna() & (rows["propensity"] < 1)]
    control = seen["message_id"] == CONTROL
    counts = seen["message_id"].value_counts()
    testable = [m for m in messages if counts.get(m, 0) > 1]
    if counts.get(CONTROL, 0) < 2 or len(testable) < len(messages):
        return None
    value, variance = np.zeros(len(messages)), np.zeros(len(messages))
    for k, message in enumerate(messages):
        compared = seen[control | (seen["message_id"] == message)]
        # each against the controls of its own experiments
        compared = compared[compared["experiment_id"].isin(
            compared.loc[compared["message_id"] == message, "experiment_id"]
        )]  # fmt: skip
        difference, V = contrast(
            compared[["outcome"]].to_numpy(dtype=np.float64),
            (compared["message_id"] == message).to_numpy(),
            pd.factorize(compared["household_id"])[0].astype(np.int64),
            1.0 / compared["propensity"].to_numpy(dtype=np.float64),
        )
        value[k], variance[k] = difference[0], V[0, 0]
    usual = np.full(len(messages), USUAL_EFFECT * float(seen["outcome"].std()))
    mean, sd = shrink(value, np.diag(variance), [""] * len(messages), prior_scale=usual)
    return Beliefs(mean, np.diag(sd**2))


# --- of the tests that are there ---


def of_tests(
    rows: pd.DataFrame, voters: pd.DataFrame, *, per_point: float
) -> list[str]:
    """What each test can detect with the people who answered it, a sentence each.

    Args:
        rows: Training set.
        voters: VOTERS.
        per_point: Outcome units of one point.
    """
    return [
        sentence
        for experiment, of_test in rows.groupby("experiment_id", sort=True)
        for sentence in _of_test(str(experiment), of_test, voters, per_point)
    ]


def _of_test(
    experiment: str, rows: pd.DataFrame, voters: pd.DataFrame, per_point: float
) -> list[str]:
    answered = rows[rows["outcome"].notna()]
    n = answered["message_id"].value_counts()
    n_control = int(n.get(CONTROL, 0))
    of_messages = n.drop(CONTROL, errors="ignore")
    where = f"experiment {experiment}"
    if n_control < 2 or of_messages.empty:
        return [
            f"{where}: {n_control:,} controls and {int(of_messages.sum()):,} people "
            "who were sent a message have answered, so no effect can be seen"
        ]
    # people who were drawn together count less than people apart
    together = answered["drawn_id"].value_counts().to_numpy(dtype=np.float64)
    noise = replace(
        noise_of(answered.assign(household_id=answered["drawn_id"]), voters),
        household=float((together**2).sum() / together.sum()),
    )
    sure = ClaimCertainty(n_claims=len(of_messages))
    lifts = {
        str(message): detectable_lift(noise, int(k), n_control, sure) / per_point
        for message, k in of_messages.items()
    }
    head = (
        f"{where}: {n_control:,} controls have answered; seen in 4 of 5 such tests, "
        f"allowing for {len(lifts)} claims, is a lift of "
    )
    each = [
        f"{lift:.2f} points of {message} ({int(of_messages[message]):,} answers)"
        for message, lift in lifts.items()
    ]
    if len(each) > MOST_LISTED:
        each = [
            *each[: MOST_LISTED - 1],
            f"at most {max(lifts.values()):.2f} of others",
        ]
    return [head + ", ".join(each)]


# --- in words ---


def as_json(result: Power) -> Json:
    """The figures as JSON values."""
    facts = result.facts
    return {
        "facts": {
            **{k: v for k, v in asdict(facts).items() if k not in {"beliefs"}},
            "message_lifts": facts.beliefs.mean.tolist(),
            "message_lift_sd": np.sqrt(np.diag(facts.beliefs.covariance)).tolist(),
        },
        "holdouts": [row._asdict() for row in result.holdouts],
        "recommended_holdout": result.recommended._asdict(),
        "splits": [asdict(s) for s in result.splits],
        "best_split": asdict(result.best),
        "first_wave": {
            **asdict(result.wave),
            "n": round(result.wave.epsilon * facts.n_contacts),
            "n_for_power": result.wave_power_n,
        },
    }


def sentences(result: Power, *, per_point: float = 1.0) -> list[str]:
    """The conclusions in sentences for staff.

    Args:
        result: From `power`.
        per_point: Outcome units of one point.
    """
    of_holdouts = [_of_holdout(row, per_point) for row in result.holdouts]
    advice = result.recommended
    percent = f"{100 * advice.share:g} %"
    recommended = (
        f"Recommended: a holdout of {percent}, {advice.why}."
        if advice.is_enough
        else f"No holdout is recommended ({percent} is the nearest): {advice.why}."
    )
    return [
        _basis(result.facts, per_point), *of_holdouts, recommended,
        *_of_exploring(result, per_point),
    ]  # fmt: skip


def _basis(facts: PowerFacts, per_point: float) -> str:
    sd = facts.noise.sd / per_point
    return (
        f"{facts.n_contacts:,} contacts over {facts.days} days among "
        f"{facts.n_audience:,} voters. Lifts believed: by {facts.source}. The "
        f"outcome's standard deviation is {sd:.1f} points; households make it "
        f"count {facts.noise.design_effect:.2f} times; "
        f"{100 * facts.noise.missing:.0f} % of outcomes stay missing."
    )


def _of_holdout(row: Detectable, per_point: float) -> str:
    return (
        f"Holdout {100 * row.holdout_share:.0f} %: an overall lift of "
        f"{row.once / per_point:.2f} points is seen at the end in 4 of 5 campaigns, "
        f"{row.daily / per_point:.2f} where every day is looked at, "
        f"{row.by_message / per_point:.2f} of one message beside the others; the lift "
        f"that is believed is seen with a chance of {100 * row.power:.0f} %; "
        f"{row.n_compared:,} voters are not sent what they would have been. That "
        f"forgoes {round(row.forgone / per_point):,} points: "
        f"{round(row.of_held_out / per_point):,} that the held out would have gained, "
        f"less {round(row.of_others / per_point):,} that their money gains among others"
        + (
            f"; ${row.unspent_usd:,.0f} find nobody left."
            if round(row.unspent_usd) > 0
            else "."
        )
    )


def _of_exploring(result: Power, per_point: float) -> list[str]:
    """What exploring would bring, and a first wave where nothing is tested."""
    facts, best, wave = result.facts, result.best, result.wave
    explored = (
        "Exploring does not pay in the days that remain, by what is believed; a "
        "small share is kept to notice when that changes."
    )
    if best.epsilon:
        explored = (
            f"Explore {100 * best.epsilon:.0f} % of the contacts on the first "
            f"{best.days} of {facts.days} days: it costs {best.cost / per_point:,.0f} "
            f"points then and brings {best.learned / per_point:,.0f} more than it "
            "costs over all days, by what is believed."
        )
    n = round(wave.epsilon * facts.n_contacts)
    return [
        explored,
        f"Were none of the messages tested, a first randomised wave of {n:,} voters "
        f"would earn most; {result.wave_power_n:,} would show each message's lift by "
        "itself, of the size that is believed.",
    ]


def power_page(result: Power, campaign: Campaign) -> PowerPage:
    """What the page of the power shows.

    Args:
        result: From `power`.
        campaign: As declared.
    """
    unit = campaign.outcome.unit_per_point
    return PowerPage(
        title=campaign.campaign.title,
        unit=unit,
        believed=max(float(result.facts.beliefs.mean.max()), 0.0),
        declared_share=campaign.plan.holdout_share,
        holdouts=tuple(result.holdouts),
        recommended=result.recommended,
        splits=tuple(result.splits),
        best=result.best,
        sentences=(_basis(result.facts, unit), *_of_exploring(result, unit)),
    )


def shares_compared(
    campaign: Campaign, named_shares: Sequence[float]
) -> tuple[float, ...]:
    """Holdout shares to compare: those that were named, else the usual and the plan's.

    Raises:
        ValueError: If one is not a share.
    """
    declared = campaign.plan.holdout_share
    usual = {*HOLDOUTS, declared} if 0 < declared < 1 else set(HOLDOUTS)
    wrong = [h for h in named_shares if not 0 < h < 1]
    if wrong:
        raise ValueError(f"expected --holdout in (0, 1), got {wrong[0]}")
    return tuple(sorted(set(named_shares) or usual))


def with_changes(facts: PowerFacts, *, days: int | None) -> PowerFacts:
    """The facts for the days that remain.

    Args:
        facts: Of the whole campaign.
        days: That remain; None for all of them.
    """
    if days is None:
        return facts
    per_day = facts.n_contacts / facts.days
    left = min(int(per_day * days), facts.n_contacts)
    share = days / facts.days
    return replace(
        facts, days=days, n_contacts=max(left, 1),
        n_affordable=max(int(facts.n_affordable * min(share, 1.0)), 1),
    )  # fmt: skip
