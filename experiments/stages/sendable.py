"""What may be sent at all, and the rule that stops the rest: asked before training.

The same rules that bind the plan's offer (`serving.offer`) and the same limits of
`[plan]` are asked here of arms whose lift nobody knows yet.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd

from hustings.experiments.declaration import CampaignError
from hustings.experiments.stages.audience import spend_per_voter
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.declared import group_bounds
from hustings.experiments.stages.guardrails import closed_groups
from hustings.experiments.stages.offers import holdout_of, moment_of, rules_at
from hustings.features.arrays import Bools
from hustings.features.training_set import Arm, arm_costs
from hustings.serving.eligible import Eligibility, eligibility


@dataclass(frozen=True)
class Stop:
    """A rule or limit that keeps messages from voters.

    Attributes:
        reason: In words, with where to mend it.
        n_voters: Voters whom it stops.
    """

    reason: str
    n_voters: int

    def __str__(self) -> str:
        return f"{self.reason} ({self.n_voters:,} voters)"


@dataclass(frozen=True)
class Sendable:
    """What may be sent of some arms.

    Attributes:
        arms: Whether an arm may be sent to anybody, by arm.
        by_channel: Voters who may be sent something, by channel.
        stops: Why not, the rule that stops most first.
    """

    arms: Mapping[Arm, bool]
    by_channel: Mapping[str, int]
    stops: tuple[Stop, ...]

    @property
    def nothing(self) -> bool:
        """Whether nothing may be sent to anybody."""
        return not any(self.arms.values())

    def notes(self) -> list[str]:
        """Messages and channels that nobody may be sent, a sentence each."""
        barred = [arm for arm, may in self.arms.items() if not may]
        if not barred or self.nothing:
            return []
        names = ", ".join(f"{arm.message_id} by {arm.channel}" for arm in barred)
        words = {f"message {arm.message_id}" for arm in barred} | {
            arm.channel for arm in barred
        }
        reasons = [
            str(stop) for stop in self.stops if stop.reason.split(":")[0] in words
        ] or list(map(str, self.stops))
        return [
            f"May not be sent: {names}, because {'; '.join(reasons)}. Learnt from, and "
            "worth nothing in the plan."
        ]


def sendable(run: Run, voters: pd.DataFrame, arms: tuple[Arm, ...]) -> Sendable:
    """Which arms may be sent to anybody, by the rules and by the limits of `[plan]`.

    Args:
        run: Its tables, record and declaration say what binds.
        voters: VOTERS rows: of a test, whose policies are judged on them.
        arms: What could be sent.
    """
    at = moment_of(pd.Timestamp(run.campaign.plan.start_on), run.at)
    rules = rules_at(run, at)
    ask = partial(
        eligibility, arms=arms, messages=rules.messages, permissions=rules.permissions,
        rule_set=rules.rule_set, as_of=at, lowers_turnout=rules.lowers_turnout,
        paused=rules.paused, people=rules.people, signed=rules.signed,
    )  # fmt: skip
    permission = ask(voters["voter_id"])
    stops = [
        Stop(f"{row['reason']}, rule set {rules.rule_set}", int(row["n_voters"]))
        for row in permission.reason_counts()
    ]
    allowed = permission.allowed.copy()
    for reason, voters_stopped in _closed_voters(run, voters):
        allowed &= ~voters_stopped[:, None]
        if voters_stopped.any():
            stops.append(Stop(reason, int(voters_stopped.sum())))
    for a, reason in _closed_arms(run, arms):
        allowed[:, a] = False
        stops.append(Stop(reason, len(voters)))
    for a, reason in _too_small_audiences(run, ask, arms, allowed):
        allowed[:, a] = False
        stops.append(Stop(reason, len(voters)))
    of_places = _of_places(run, permission, arms)
    may = allowed.any(axis=0) | of_places
    unique = dict.fromkeys(sorted(stops, key=lambda stop: -stop.n_voters))
    by_channel = {
        channel: int(
            allowed[:, [arm.channel == channel for arm in arms]].any(axis=1).sum()
        )
        for channel in dict.fromkeys(arm.channel for arm in arms)
    }
    return Sendable(
        dict(zip(arms, map(bool, may), strict=True)), by_channel, tuple(unique)
    )


def require_sendable(run: Run, voters: pd.DataFrame, arms: tuple[Arm, ...]) -> None:
    """Refuse to plan where nothing may be sent.

    Raises:
        CampaignError: Naming every rule and how many voters it stops.
    """
    of_plan = sendable(run, voters, arms)
    if arms and of_plan.nothing:
        raise CampaignError(
            f"Nothing may be sent, because {'; '.join(map(str, of_plan.stops))}."
        )


def _closed_voters(run: Run, voters: pd.DataFrame) -> Iterator[tuple[str, Bools]]:
    """Voters whom `[plan]` leaves out."""
    plan = run.campaign.plan
    if plan.only is not None:
        inside = voters[plan.only.column].astype(str).isin(plan.only.values)
        yield f"outside [plan.only] {plan.only.column}", ~inside.to_numpy(dtype=bool)
    if not plan.groups:
        return
    electorate = run.table("voters")
    row = pd.Index(electorate["voter_id"]).get_indexer(pd.Index(voters["voter_id"]))
    for bound in group_bounds(run, electorate, 1.0):
        if bound.high == 0 or bound.most == 0:
            reason = f"[plan.groups.{bound.name}] allows no contact"
            yield reason, bound.members[row]


def _closed_arms(run: Run, arms: tuple[Arm, ...]) -> Iterator[tuple[int, str]]:
    """Arms of which limits of the plan do not allow a single contact."""
    plan, budget = run.campaign.plan, _budget(run)
    capacity, cost = _capacity(run), arm_costs(run.table("costs"), arms)
    harmful = {c.message_id: c.reason for c in closed_groups(run) if not c.where}
    for a, arm in enumerate(arms):
        declared = plan.messages.get(arm.message_id)
        fee = (
            plan.channels[arm.channel].setup_usd if arm.channel in plan.channels else 0
        )
        if capacity.get(arm.channel, np.inf) < 1:
            yield a, f"{arm.channel}: capacity 0 ([tables.costs] capacity_per_day)"
        elif arm.message_id in harmful:
            yield a, f"message {arm.message_id}: {harmful[arm.message_id]}"
        elif declared is not None and declared.most == 0:
            yield a, f"message {arm.message_id}: [plan.messages] most = 0"
        elif cost[a] + fee > budget:
            yield (
                a,
                f"{arm.channel}: one contact costs {cost[a] + fee:,.2f} USD, the "
                f"budget is {budget:,.2f}",
            )


def _too_small_audiences(
    run: Run, ask: "partial[Eligibility]", arms: tuple[Arm, ...], allowed: Bools
) -> Iterator[tuple[int, str]]:
    """Arms whose minimum audience or minimum order cannot be reached."""
    plan = run.campaign.plan
    orders = {c: s.minimum_order for c, s in plan.channels.items() if s.minimum_order}
    if not plan.minimum_audience and not orders:
        return
    voters = run.table("voters")
    reachable = ask(voters["voter_id"]).allowed & ~holdout_of(run, voters)[:, None]
    for _, stopped in _closed_voters(run, voters):
        reachable &= ~stopped[:, None]
    reachable &= allowed.any(axis=0)
    for column, values in (("message_id", None), ("channel", orders)):
        for name in dict.fromkeys(getattr(arm, column) for arm in arms):
            least = plan.minimum_audience if values is None else values.get(name, 0)
            at = [a for a, arm in enumerate(arms) if getattr(arm, column) == name]
            # what other rules stop needs no second reason
            if not allowed[:, at].any():
                continue
            most = _most_contacts(run, arms, at, reachable)
            if most < least:
                key = "[plan] minimum_audience"
                label = f"message {name}"
                if values is not None:
                    key, label = f"[plan.channels.{name}] minimum_order", name
                reason = f"{label}: at most {most:,} can be sent it, {key} is {least:,}"
                yield from ((a, reason) for a in at)


def _most_contacts(
    run: Run, arms: tuple[Arm, ...], at: list[int], reachable: Bools
) -> int:
    """Contacts that some arms together can have: people, capacity, money, caps."""
    plan, capacity = run.campaign.plan, _capacity(run)
    cost = arm_costs(run.table("costs"), arms)
    open_arms = [a for a in at if reachable[:, a].any()]
    if not open_arms:
        return 0
    channels = {arms[a].channel for a in open_arms}
    caps = [plan.messages[m].most for m in {arms[a].message_id for a in open_arms}
            if m in plan.messages]  # fmt: skip
    limits = [
        float(reachable[:, open_arms].any(axis=1).sum()),
        sum(capacity.get(channel, np.inf) for channel in channels),
        np.inf if plan.capacity_per_day is None else plan.capacity_per_day * plan.days,
        _budget(run) / max(float(cost[open_arms].min()), 1e-12),
    ]
    if len(caps) == 1 and caps[0] is not None:
        limits.append(float(caps[0]))
    return int(min(limits))


def _capacity(run: Run) -> dict[str, float]:
    """Contacts of every limited channel over all days of the plan."""
    costs = run.table("costs").dropna(subset="capacity_per_day")
    most = costs.groupby("channel", observed=True)["capacity_per_day"].max()
    return {str(c): float(n) * run.campaign.plan.days for c, n in most.items()}


def _budget(run: Run) -> float:
    n_voters = len(run.table("voters"))
    return spend_per_voter(run, n_voters) * n_voters


def _of_places(run: Run, permission: Eligibility, arms: tuple[Arm, ...]) -> Bools:
    """Arms whose message a channel of whole places may carry: it addresses nobody."""
    places = run.campaign.plan.places
    carried = set() if places is None else {c.lift_of for c in places.channels.values()}
    return np.array(
        [
            arm.channel in carried and arm.message_id not in permission.barred_messages
            for arm in arms
        ],
        dtype=bool,
    )
