"""A simulated month: the loop and its rivals in one world, day by day, and the truth.

`run_month` runs one seed, `judge_months` puts seeds together, and `replayed` computes
every day again from the ledger's entries and the outcomes that had come in.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.experiments.declaration import (
    Campaign,
    CampaignError,
    feature_columns,
    load_campaign,
)
from hustings.experiments.loop.decisions import Decisions, State
from hustings.experiments.loop.declared import declared_loop, loop_terms
from hustings.experiments.loop.gate import gain_of_personalising, pays
from hustings.experiments.loop.one_day import DayRecord, Learned, LoopTerms, one_day
from hustings.experiments.plans.ledger import Ledger, open_ledger
from hustings.experiments.simulation import coverage, rival_policies
from hustings.experiments.simulation.coverage import NONE, Stated
from hustings.experiments.simulation.world import Answers, World, draw_world
from hustings.experiments.stages.context import rounded
from hustings.features.arrays import Floats
from hustings.features.simulated.campaign import simulate

Json = dict[str, Any]

POLICIES: Mapping[str, str] = {
    "oracle": "The best plan for the money by the truth, no holdout and no test.",
    "loop": "This loop: a holdout, exploration with known chances, learning every day.",
    "greedy": "The same learner after a test of that size; sends what looks best.",
    "single_best": "A test of that size, then its best message to random people.",
    "random": "Any message to anybody.",
}


class Month(NamedTuple):
    """One seed.

    Attributes:
        seed: Of the world and of every lot.
        gain: True gain of every policy, outcome units × voters.
        stated: Intervals of the loop and of the greedy policy, by kind.
        days: What the loop's days say of themselves.
        replays: Whether every day came out the same from ledger and outcomes.
    """

    seed: int
    gain: dict[str, float]
    stated: dict[str, Stated]
    days: list[DayRecord]
    replays: bool


@dataclass(frozen=True)
class Played:
    """A month of the loop: where it ended, and what its days say."""

    state: State
    days: list[DayRecord]


def month_terms(campaign: Campaign, world: World, *, seed: int) -> LoopTerms:
    """Terms of the loop in a world."""
    return loop_terms(
        campaign, n_voters=len(world.audience), n_arms=len(world.audience.arms),
        mean_cost_usd=float(world.audience.cost.mean()),
        salt=_salt(campaign, seed), seed=seed,
    )  # fmt: skip


def _salt(campaign: Campaign, seed: int) -> str:
    return f"{campaign.campaign.name}-{seed}"


def simulated_world(campaign: Campaign, *, seed: int, n_voters: int = 0) -> World:
    """The world of one seed.

    Args:
        campaign: With [simulate] and [loop].
        seed: Of voters, noise and holdout.
        n_voters: In place of the declared number, where above 0.

    Raises:
        CampaignError: If the campaign is not a simulated one.
    """
    loop, drawn = declared_loop(campaign), campaign.simulate
    if drawn is None:
        raise CampaignError(
            f"{campaign.file}: expected a section [simulate], whose truth a month is "
            "judged by, got none; `hustings day` runs a campaign on its own files"
        )
    sample = simulate(
        n_voters=n_voters or drawn.n_voters, seed=seed, n_messages=drawn.n_messages,
        null_twin=drawn.null_twin,
    )  # fmt: skip
    voters = sample.tables["voters"]
    return draw_world(
        sample, feature_columns(campaign, list(voters.columns)), loop.channels,
        Answers(loop.outcome_first_days, loop.outcome_last_days, loop.answer_share),
        as_of=pd.Timestamp(campaign.campaign.as_of),
        segment=campaign.features.segment,
        salt=_salt(campaign, seed), holdout_share=campaign.plan.holdout_share,
        seed=seed,
    )  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """Whether personalising was shown to pay, and how often that was asked.

    Attributes:
        terms: Of the loop.
        attempts: So far; each spends its part of the alpha.
        shown: Once shown it holds for the month.
    """

    terms: LoopTerms
    attempts: int = 0
    shown: bool = False

    @property
    def personalise(self) -> bool:
        """Whether a day personalises."""
        return self.shown or self.terms.gate == "shrinkage"

    def asked(self, state: State, world: World, day: int) -> Self:
        """The verdict on a day's morning; asked anew every declared number of days."""
        terms = self.terms
        due = day % terms.evaluate_every_days == 0
        if self.personalise or not due:
            return self
        gain = gain_of_personalising(
            state, world.audience, world.columns,
            spend=terms.budget_usd / len(world.audience), repeats=terms.repeats,
        )  # fmt: skip
        if gain is None:
            return self
        tried = self.attempts + 1
        return replace(self, attempts=tried, shown=pays(gain, attempt=tried))


def play(
    world: World, terms: LoopTerms, ledger: Ledger | None = None, *, days: int = 0
) -> Played:
    """The loop day by day.

    Args:
        world: The truth; the loop sees no more of it than the outcomes that are in.
        terms: Of the loop.
        ledger: Gets an entry a day, where given.
        days: Fewer days than declared, where above 0.
    """
    audience, state = world.audience, State.new(world.audience)
    learned = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    records, verdict = [], Verdict(terms)
    for day in range(days or terms.days):
        state = world.hear(state, day)
        verdict = verdict.asked(state, world, day)
        done = one_day(
            terms, world.columns, audience, state, learned, day=day,
            personalise=verdict.personalise,
        )  # fmt: skip
        state, learned = done.state, done.learned
        records.append(done.record)
        if ledger is not None:
            at = (terms.start_on + pd.Timedelta(days=day)).tz_localize("UTC")
            ledger.append("loop day", _entry(done.record, done.decisions), at=at)
    return Played(state, records)


def _entry(record: DayRecord, decisions: Decisions) -> Json:
    """What the ledger keeps of a simulated day: figures, a digest of who got what."""
    return {**record._asdict(), "decisions_sha256": digest(decisions)}


def digest(decisions: Decisions) -> str:
    """SHA-256 of decisions with their chances, to the last bit."""
    found = hashlib.sha256()
    for name, column in sorted(vars(decisions).items()):
        found.update(name.encode() + np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def replayed(world: World, terms: LoopTerms, ledger: Ledger, played: Played) -> bool:
    """Whether each day comes out the same from what had come in by then.

    Nothing is kept of the first run but its rows: every day learns again from those
    that were in, plans and draws, and is compared with the ledger's entry.
    """
    if ledger.verify().fault:
        return False
    told = [json.loads(e.body) for e in ledger.store.of_kind("loop day")]
    audience, made = world.audience, played.state.decisions
    learned = Learned.nothing(audience.phi.shape[1], len(audience.arms))
    chance, verdict = np.ones(len(audience)), Verdict(terms)
    for day, body in enumerate(told):
        before = made.day < day
        state = State(
            made.take(before), np.full(int(before.sum()), np.nan), chance,
        )  # fmt: skip
        heard = world.hear(state, day)
        verdict = verdict.asked(heard, world, day)
        done = one_day(
            terms, world.columns, audience, heard, learned, day=day,
            personalise=verdict.personalise,
        )  # fmt: skip
        learned, chance = done.learned, done.state.pool_probability
        if digest(done.decisions) != body["decisions_sha256"]:
            return False
    return True


def run_month(
    campaign: Campaign, *, seed: int, home: Path | None = None, n_voters: int = 0
) -> Month:
    """The loop and its rivals in the world of one seed.

    Args:
        campaign: With [simulate] and [loop].
        seed: Of the world.
        home: Folder of a ledger, by which the month is replayed; None: no replay.
        n_voters: In place of the declared number, where above 0.
    """
    world = simulated_world(campaign, seed=seed, n_voters=n_voters)
    terms = month_terms(campaign, world, seed=seed)
    ledger = None if home is None else open_ledger(home)
    played = play(world, terms, ledger)
    greedy, _ = rival_policies.greedy(world, terms)
    states = {
        "loop": played.state,
        "greedy": greedy,
        "single_best": rival_policies.single_best(world, terms),
        "random": rival_policies.anything(world, terms),
    }
    gain = {name: rival_policies.true_gain(world, s) for name, s in states.items()}
    gain["oracle"] = rival_policies.oracle_gain(world, terms)
    last = terms.days + int(world.lag.max())
    heard = world.hear(played.state, last)
    stated = coverage.ours(heard, world, terms.repeats)
    told = world.hear(greedy, last)
    stated["greedy"] = coverage.naive(told, world)
    stated["greedy_adjusted"] = coverage.naive_adjusted(told, world)
    same = ledger is not None and replayed(world, terms, ledger, played)
    return Month(seed, gain, stated, played.days, same)


def judge_months(months: Sequence[Month], *, replayed_seeds: int) -> Json:
    """Regret and coverage over seeds.

    Args:
        months: One a seed.
        replayed_seeds: How many of them had a ledger.
    """
    oracle = np.array([m.gain["oracle"] for m in months])
    regret = {
        name: oracle - np.array([m.gain[name] for m in months])
        for name in POLICIES
        if name != "oracle"
    }
    ratio = {
        f"loop_over_{name}": _spread(regret["loop"] / regret[name])
        | {"of_means": float(regret["loop"].mean() / regret[name].mean())}
        for name in ("single_best", "random", "greedy")
    }
    gains = {n: _spread(np.array([m.gain[n] for m in months])) for n in POLICIES}
    return {
        "n_seeds": len(months),
        "policies": dict(POLICIES),
        "gain": gains,
        "regret": {name: _spread(r) for name, r in regret.items()},
        "regret_share_of_oracle": {n: _spread(r / oracle) for n, r in regret.items()},
        "regret_ratio": ratio,
        "coverage": _coverages(months),
        "explore_cost": _spread(
            np.array([sum(d.explore_cost for d in m.days) for m in months])
        ),
        "contacts": _spread(np.array([sum(d.n_sent for d in m.days) for m in months])),
        "n_replayed": replayed_seeds,
        "n_replayed_alike": sum(m.replays for m in months),
    }


def _spread(values: Floats) -> Json:
    """Mean over seeds, its standard error, least and most."""
    se = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")
    return {
        "mean": float(values.mean()),
        "se": float(se),
        "least": float(values.min()),
        "most": float(values.max()),
    }


def _coverages(months: Sequence[Month]) -> Json:
    found = {}
    for kind in months[0].stated:
        every = NONE
        for month in months:
            every = every.joined(month.stated[kind])
        found[kind] = _coverage(every)
    both = NONE
    for month in months:
        for kind in ("delivered", "campaign", "population"):
            both = both.joined(month.stated[kind])
    found["loop_all"] = _coverage(both)
    return found


def _coverage(stated: Stated) -> Json:
    n = len(stated.value)
    if not n:
        return {"n": 0}
    share = float(stated.covered.mean())
    return {
        "n": n,
        "covered": share,
        "simulation_se": float(np.sqrt(share * (1 - share) / n)),
        "mean_error": float((stated.value - stated.truth).mean()),
        "mean_se": float(stated.se.mean()),
    }


def seeds_of(campaign: Campaign, n: int) -> list[int]:
    """Seeds of n months: the declared one and those after it."""
    return [campaign.campaign.seed + k for k in range(n)]


def judged_months(
    campaign: Campaign,
    *,
    n_seeds: int,
    n_voters: int = 0,
    n_workers: int = 1,
    tell: Callable[[str], None] = lambda _text: None,
) -> Json:
    """The evaluation of a simulated campaign over seeds, each month replayed.

    Args:
        campaign: With [simulate] and [loop].
        n_seeds: Worlds.
        n_voters: In place of the declared number, where above 0.
        n_workers: Processes.
        tell: Told of every month that is done.
    """
    asked = [(campaign.file, seed, n_voters) for seed in seeds_of(campaign, n_seeds)]
    months = []
    with ProcessPoolExecutor(n_workers) as pool:
        made = pool.map(_one_month, asked) if n_workers > 1 else map(_one_month, asked)
        for month in made:
            months.append(month)
            tell(f"month {len(months)} of {n_seeds} done")
    found: Json = rounded(judge_months(months, replayed_seeds=n_seeds))
    return {"campaign": campaign.campaign.name, **found}


def _one_month(asked: tuple[Path, int, int]) -> Month:
    file, seed, n_voters = asked
    with TemporaryDirectory() as home:
        return run_month(
            load_campaign(file), seed=seed, home=Path(home), n_voters=n_voters
        )


def told_text(found: Json) -> str:
    """What an evaluation says, in some lines."""
    share, ratio = found["regret_share_of_oracle"], found["regret_ratio"]
    lines = [f"{found['n_seeds']} months. Regret as a share of the oracle's gain:"]
    lines += [f"  {name:<12} {share[name]['mean']:.1%}" for name in share]
    lines.append("Regret of the loop over that of another, mean over seeds:")
    lines += [f"  {name.removeprefix('loop_over_'):<12} {r['of_means']:.2f}"
              for name, r in ratio.items()]  # fmt: skip
    lines.append("Intervals that hold the truth:")
    lines += [
        f"  {kind:<16} {c['covered']:.1%} of {c['n']}"
        for kind, c in found["coverage"].items()
        if c["n"]
    ]
    lines.append(
        f"Replayed alike: {found['n_replayed_alike']} of {found['n_replayed']}"
    )
    return "\n".join(lines)
