"""A simulated month: the shipped day, thirty times, in a world that answers by files.

Every morning the answers that are due are kept as `hustings responses` keeps them; then
`run_day` makes the day's plan, which is locked and handed over. Nothing of the loop is
told the truth, and no part of it runs only here. Rivals spend the same money in the
same world. `run_month` runs one seed, `judge_months` puts seeds together.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from hustings.experiments.declaration import Campaign, CampaignError, load_campaign
from hustings.experiments.loop.answered import Answered, answered_so_far
from hustings.experiments.loop.declared import declared_loop
from hustings.experiments.loop.learners import Morning, learner_columns_of, learner_of
from hustings.experiments.loop.run_day import NO_PLAN, DaySummary, morning_of, run_day
from hustings.experiments.loop.run_day import terms_of as loop_settings_of
from hustings.experiments.plans import PLANS, batches_of, plan_faults, send
from hustings.experiments.plans.folder import read_table
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.record import OF_NO_PLAN, keep_answers
from hustings.experiments.run import begin_run
from hustings.experiments.simulation import coverage, rival_policies
from hustings.experiments.simulation.coverage import (
    NONE,
    MeasuredAt,
    PredictedIntervals,
    StatedIntervals,
)
from hustings.experiments.simulation.world import World, world_of
from hustings.experiments.stages.context import Run, rounded
from hustings.features.arrays import Floats, Ints
from hustings.features.tables import RESPONSES, UNDECIDED, check

Json = dict[str, Any]

POLICIES: Mapping[str, str] = {
    "oracle": "The best plan for the money by the truth, no holdout and no test.",
    "loop": "This loop: a holdout, exploration with known chances, learning every day.",
    "greedy": "The same learner after a test of that size; sends what looks best.",
    "single_best": "A test of that size, then its best message to random people.",
    "random": "Any message to anybody.",
}
HOUR = pd.Timedelta(hours=6)
"""When a simulated day is made."""
LOOK_EVERY_DAYS = 5
"""Days between two looks at what was measured."""
RUN = "month"
BY = "the simulation"


@dataclass(frozen=True)
class Month:
    """One seed.

    Attributes:
        seed: Of the world and of every random draw.
        gain: True gain of every policy, outcome units × voters.
        stated: Intervals for one look, of the loop and of the greedy policy, by kind.
        predicted: Intervals of the predicted lift, at each look after the first wave.
        measured: The lift of everything delivered, at each look.
        days: What the loop's days say of themselves.
        intact: Whether the ledger and all files of plans verify at the end.
    """

    seed: int
    gain: dict[str, float]
    stated: dict[str, StatedIntervals]
    predicted: list[PredictedIntervals]
    measured: list[MeasuredAt]
    days: list[DaySummary]
    intact: bool


def simulated_run(
    campaign: Campaign, home: Path, *, seed: int, n_voters: int = 0
) -> Run:
    """A run of one seed's world, its files drawn and ingested as a campaign's are.

    Args:
        campaign: With [simulate] and [loop].
        home: Folder of the campaign.
        seed: Of voters, noise, holdout and every draw.
        n_voters: In place of the declared number, where above 0.

    Raises:
        CampaignError: If the campaign is not a simulated one, or has no loop.
    """
    declared_loop(campaign)
    drawn = campaign.simulate
    if drawn is None:
        raise CampaignError(
            f"{campaign.file}: expected a section [simulate], whose truth a month is "
            "judged by, got none; `hustings day` runs a campaign on its own files"
        )
    of_seed = {"seed": seed, "n_voters": n_voters or drawn.n_voters}
    declared = campaign.model_copy(
        update={
            "campaign": campaign.campaign.model_copy(update={"seed": seed}),
            "simulate": drawn.model_copy(update=of_seed),
        }
    )
    starts = pd.Timestamp(declared.plan.start_on, tz="UTC")
    run = Run(
        declared, home, home / RUN, RUN, home / "mlflow", at=starts
    )  # fmt: skip
    begin_run(run)
    return run


class LoopInWorld:
    """A campaign's loop in a world that answers through files."""

    def __init__(self, run: Run, world: World) -> None:
        """Before the first day."""
        self.run, self.world = run, world
        self.terms = loop_settings_of(run)
        self.position = pd.Series(np.arange(len(world)), index=world.voter_id)
        self.days: list[DaySummary] = []
        self._rows: list[pd.DataFrame] = []

    def moment(self, day: int) -> pd.Timestamp:
        """When a day is made."""
        on = self.terms.start_on + pd.Timedelta(days=day)
        return (on + HOUR).tz_localize("UTC")

    def play(self, day: int) -> DaySummary:
        """Answers come in, the day is planned, locked and handed over."""
        self.answer(day)
        at, date = self.moment(day), self.terms.start_on + pd.Timedelta(days=day)
        summary = run_day(self.run, date=date, at=at, approve_by=BY)
        if summary.state != NO_PLAN:
            self._hand_over(summary.plan_id, day, at)
        self.days.append(summary)
        if summary.retrained:
            # the campaign's latest run is the one that a day is made from
            name = summary.retrained
            self.run = replace(self.run, run_id=name, folder=self.run.home / name)
        return summary

    def answer(self, day: int) -> None:
        """Keep what voters answer by the morning of a day and had not before."""
        if not self._rows:
            return
        rows = pd.concat(self._rows, ignore_index=True)
        voter = rows["voter"].to_numpy()
        heard_on = rows["day"].to_numpy() + self.world.lag[voter]
        due = (heard_on == day) & self.world.answers[voter]
        if not due.any():
            return
        value = self.world.outcomes(voter[due], rows["arm"].to_numpy()[due])
        answers = rows.loc[due, ["voter_id", "experiment_id", "plan_id"]].assign(
            outcome=self.run.campaign.outcome.name, value=value,
            observed_at=self.terms.start_on + pd.Timedelta(days=day),
        )  # fmt: skip
        rows_of_file = check(RESPONSES, answers)
        text = rows_of_file.to_csv(index=False).encode()
        keep_answers(
            self.run.home, OF_NO_PLAN, hashlib.sha256(text).hexdigest(),
            {"responses": rows_of_file}, {"accepted": len(rows_of_file)},
            at=self.moment(day),
        )  # fmt: skip

    def _hand_over(self, plan_id: str, day: int, at: pd.Timestamp) -> None:
        for batch, voters in batches_of(self.run.home, plan_id).items():
            send(self.run.home, plan_id, batch, voters, at=at)
        rows = read_table(self.run.home / PLANS / plan_id / "assignments.parquet")
        rows = rows[rows["block"] != UNDECIDED]
        arms = {tuple(arm): k for k, arm in enumerate(self.world.arms, start=1)}
        pairs = zip(rows["message_id"].tolist(), rows["channel"].tolist(), strict=True)
        self._rows.append(
            rows[["voter_id", "experiment_id"]].assign(
                plan_id=plan_id, day=day,
                voter=self.position.loc[rows["voter_id"]].to_numpy(),
                arm=[arms.get(pair, 0) for pair in pairs],
            )
        )  # fmt: skip

    @property
    def contacts(self) -> tuple[Ints, Ints]:
        """Position and arm (0 for nothing) of everybody decided so far."""
        rows = pd.concat(self._rows, ignore_index=True)
        return rows["voter"].to_numpy(), rows["arm"].to_numpy()

    def morning(self, day: int) -> Morning:
        """The morning of a day, as its learner is given it."""
        date = self.terms.start_on + pd.Timedelta(days=day)
        return morning_of(self.run, self.terms, date, day, self.moment(day))

    def due(self, day: int) -> Answered:
        """Decisions whose outcome is due by the morning of a day, as [lift] says."""
        lag = pd.Timedelta(days=self.run.campaign.lift.lag_days)
        answered = self.answered(day)
        until = self.terms.start_on + pd.Timedelta(days=day) - lag
        return answered.take(answered.on <= np.datetime64(until))

    def answered(self, day: int) -> Answered:
        """Decisions and the answers that are in on the morning of a day."""
        morning = self.morning(day)
        return answered_so_far(
            self.run, self.world.voter_id, self.world.arms, morning.experiment_id,
            at=self.moment(day),
        )  # fmt: skip


def run_month(campaign: Campaign, home: Path, *, seed: int, n_voters: int = 0) -> Month:
    """The loop and its rivals in the world of one seed.

    Args:
        campaign: With [simulate] and [loop].
        home: Folder of the campaign, where its plans and answers lie.
        seed: Of the world.
        n_voters: In place of the declared number, where above 0.
    """
    run = simulated_run(campaign, home, seed=seed, n_voters=n_voters)
    world = world_of(run)
    loop = LoopInWorld(run, world)
    settings = loop.terms
    columns = learner_columns_of(loop.morning(0))
    predictions: list[PredictedIntervals] = []
    looks: list[MeasuredAt] = []
    last = settings.days + int(world.lag.max())
    for day in range(last + 1):
        if day < settings.days:
            loop.play(day)
        else:
            loop.answer(day)
        if (day + 1) % LOOK_EVERY_DAYS == 0 or day == last:
            look = coverage.measured_at(
                loop.due(day), world, columns, horizon_days=settings.days
            )
            looks += [] if look is None else [look]
        if day < settings.days and (day + 1) % LOOK_EVERY_DAYS == 0:
            predictions += _predicted(loop, world, day)
    answered = loop.answered(last)
    greedy = rival_policies.greedy(world, columns, settings)
    rivals = {
        "greedy": greedy,
        "single_best": rival_policies.single_best(world, settings),
        "random": rival_policies.anything(world, settings),
    }
    gain = {
        name: rival_policies.true_gain(world, d.voter, d.arm)
        for name, d in rivals.items()
    }
    gain["loop"] = rival_policies.true_gain(world, *loop.contacts)
    gain["oracle"] = rival_policies.oracle_gain(world, settings)
    states = coverage.stated(answered, world, columns)
    states["greedy"] = coverage.naive(greedy, world, last)
    intact = not open_ledger(home).verify().fault and not plan_faults(home)
    return Month(seed, gain, states, predictions, looks, loop.days, intact)


def _predicted(loop: LoopInWorld, world: World, day: int) -> list[PredictedIntervals]:
    """Intervals of the lifts that the day was planned by; none before any outcome."""
    if loop.terms.phase(day) != "sends":
        return []
    morning = loop.morning(day)
    believed = learner_of(morning).believed(morning)
    return [] if believed is None else [coverage.predicted(believed.offer, world)]


def judge_months(months: Sequence[Month]) -> Json:
    """Regret and coverage over seeds."""
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
        "predicted": _predictions(months),
        "measured_at_every_look": _every_look(months),
        "explore_cost": _spread(
            np.array([sum(d.explore_cost for d in m.days) for m in months])
        ),
        "contacts": _spread(np.array([sum(d.n_sent for d in m.days) for m in months])),
        "n_intact": sum(m.intact for m in months),
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


def _predictions(months: Sequence[Month]) -> Json:
    """Coverage and error of predicted lifts: the mean over looks, by month."""
    return {
        name: _spread(
            np.array([np.mean([getattr(p, name) for p in m.predicted]) for m in months])
        )
        for name in PredictedIntervals._fields
    }


def _every_look(months: Sequence[Month]) -> Json:
    """Months in which every interval held the truth, and how wide the last one was."""
    return {
        "n_looks": int(np.mean([len(m.measured) for m in months])),
        "share_of_months_held": float(
            np.mean([all(look.holds for look in m.measured) for m in months])
        ),
        "last_half_width": _spread(np.array([m.measured[-1].reach for m in months])),
        "last_truth": _spread(np.array([m.measured[-1].truth for m in months])),
    }


def _coverages(months: Sequence[Month]) -> Json:
    coverages = {}
    for kind in months[0].stated:
        every = NONE
        for month in months:
            every = every.joined(month.stated[kind])
        coverages[kind] = _coverage(every)
    of_loop = NONE
    for month in months:
        for kind in ("delivered", "campaign", "population"):
            of_loop = of_loop.joined(month.stated[kind])
    coverages["loop_all"] = _coverage(of_loop)
    return coverages


def _coverage(stated: StatedIntervals) -> Json:
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
    """The evaluation of a simulated campaign over seeds.

    Args:
        campaign: With [simulate] and [loop].
        n_seeds: Worlds.
        n_voters: In place of the declared number, where above 0.
        n_workers: Processes.
        tell: Called with a sentence after every month.
    """
    tasks = [(campaign.file, seed, n_voters) for seed in seeds_of(campaign, n_seeds)]
    months: list[Month] = []
    with ProcessPoolExecutor(n_workers) as pool:
        played = (
            pool.map(_one_month, tasks) if n_workers > 1 else map(_one_month, tasks)
        )
        for month in played:
            months.append(month)
            tell(f"month {len(months)} of {n_seeds} done")
    evaluation: Json = rounded(judge_months(months))
    return {"campaign": campaign.campaign.name, **evaluation}


def _one_month(task: tuple[Path, int, int]) -> Month:
    file, seed, n_voters = task
    with TemporaryDirectory() as folder:
        campaign = load_campaign(file)
        home = Path(folder) / campaign.campaign.name
        return run_month(campaign, home, seed=seed, n_voters=n_voters)


def evaluation_text(evaluation: Json) -> str:
    """An evaluation in some lines."""
    share, ratio = evaluation["regret_share_of_oracle"], evaluation["regret_ratio"]
    lines = [f"{evaluation['n_seeds']} months. Regret as a share of the oracle's gain:"]
    lines += [f"  {name:<12} {share[name]['mean']:.1%}" for name in share]
    lines.append("Regret of the loop over that of another, mean over seeds:")
    lines += [f"  {name.removeprefix('loop_over_'):<12} {r['of_means']:.2f}"
              for name, r in ratio.items()]  # fmt: skip
    lines.append("Intervals for one look that hold the truth:")
    lines += [
        f"  {kind:<16} {c['covered']:.1%} of {c['n']}"
        for kind, c in evaluation["coverage"].items()
        if c["n"]
    ]
    predicted, looks = evaluation["predicted"], evaluation["measured_at_every_look"]
    lines.append(
        f"Intervals of predicted lift hold for {predicted['covered']['mean']:.1%} of "
        f"voters and messages (mean standard error {predicted['mean_se']['mean']:.2f})."
    )
    lines.append(
        f"Measured lift of everything delivered: all of {looks['n_looks']} looks hold "
        f"in {looks['share_of_months_held']:.1%} of months; at the last look "
        f"{looks['last_truth']['mean']:.2f} ± {looks['last_half_width']['mean']:.2f}."
    )
    lines.append(
        f"Ledger and plans intact: {evaluation['n_intact']} of {evaluation['n_seeds']}"
    )
    return "\n".join(lines)
