"""Results that modules hand each other: of a run, its plan, and measured lift."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from hustings.features.stored import Stored
from hustings.features.topology import Topology
from hustings.serving.plan.explain import LimitUse, MessageReasons
from hustings.training.estimators.metrics import Interval

STANDARD_ERRORS = 3.0
"""Differences up to so many standard errors are those of the sample."""
DELIVERED = "delivered"
"""Estimand of what was sent by the plans, against those held out."""
SMALLEST_DIFFERENCE = 0.005
"""Contacts per voter that are no difference: limits are kept in whole contacts."""


@dataclass(frozen=True)
class ArmShare(Stored):
    """Contacts by one arm per voter, judged and planned.

    Attributes:
        message_id: The message.
        channel: The channel.
        judged: Contacts per voter of the judged, as the plan would deliver them.
        planned: Contacts per voter of the audience in the plan itself.
        error: Standard error of the difference.
    """

    message_id: str
    channel: str
    judged: float
    planned: float
    error: float

    @property
    def agrees(self) -> bool:
        """Whether the difference is that of the sample."""
        allowed = STANDARD_ERRORS * self.error + SMALLEST_DIFFERENCE
        return abs(self.judged - self.planned) <= allowed

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, and whether they agree."""
        return super().to_json() | {"agrees": self.agrees}


@dataclass(frozen=True)
class Agreement(Stored):
    """One experiment's policy, judged and planned.

    Attributes:
        experiment_id: The experiment.
        policy: Name of the policy.
        gain: Judged gain per voter.
        arms: What both send.
        judged_usd: Spend per voter on what the plan itself sends, as judged.
        planned_usd: The same in the plan.
        why: What they differ by, and why; empty where they agree.
    """

    experiment_id: str
    policy: str
    gain: Interval
    arms: tuple[ArmShare, ...]
    judged_usd: float
    planned_usd: float
    why: str

    @property
    def agrees(self) -> bool:
        """Whether they agree within sampling error."""
        return not self.why

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, and whether they agree."""
        return super().to_json() | {"agrees": self.agrees}


@dataclass(frozen=True)
class PlannedArm:
    """Contacts by a message, a channel and a role.

    Attributes:
        message_id: The message.
        channel: The channel.
        role: `plan` or `explore`.
        n: Contacts.
        cost_usd: Of them all.
        lift_mean: Their mean predicted lift, outcome units.
    """

    message_id: str
    channel: str
    role: str
    n: int
    cost_usd: float
    lift_mean: float


@dataclass(frozen=True)
class ContactsOfDay:
    """Contacts by a day and a channel.

    Attributes:
        send_on: ISO date.
        channel: The channel.
        n: Contacts.
    """

    send_on: str
    channel: str
    n: int


@dataclass(frozen=True)
class PlannedSegment:
    """Voters of a segment, and how many of them are contacted.

    Attributes:
        segment: Its name.
        n_planned: Voters contacted.
        n_voters: Voters.
    """

    segment: str
    n_planned: int
    n_voters: int


@dataclass(frozen=True)
class NotEligible:
    """Voters who could not be contacted for a reason.

    Attributes:
        reason: In words.
        n_voters: Voters.
    """

    reason: str
    n_voters: int


@dataclass(frozen=True)
class OnlineUse:
    """What the endpoint has sent and offers, which a plan leaves out.

    Attributes:
        n_sent: Contacts sent.
        sent_usd: Their money.
        n_open: Offers that have not expired.
        reserved_usd: Their money.
    """

    n_sent: int = 0
    sent_usd: float = 0.0
    n_open: int = 0
    reserved_usd: float = 0.0


@dataclass(frozen=True)
class TakenPlace:
    """A place of which everybody gets a channel.

    Attributes:
        place: Its name.
        channel: The channel.
        message_id: The message.
        n_voters: Its voters.
        cost_usd: Of the whole place.
        lift: Sum of the declared lifts of its voters, outcome units.
    """

    place: str
    channel: str
    message_id: str
    n_voters: int
    cost_usd: float
    lift: float


@dataclass(frozen=True)
class ExpectedOfChannel:
    """What a channel of whole places is declared to do.

    Attributes:
        lift_of: Channel whose lift is taken.
        lift_share: Share of that lift.
    """

    lift_of: str
    lift_share: float


@dataclass(frozen=True)
class PlannedPlaces(Stored):
    """What whole places get.

    Attributes:
        column: Column of the voter file that says the place.
        n_places: Places that could be taken.
        n_held_out: Of them held out.
        gap: Share of the bound that the choice of places may fall short of.
        expected: What each channel is declared to do.
        taken: Places that get a channel.
    """

    column: str
    n_places: int
    n_held_out: int
    gap: float
    expected: Mapping[str, ExpectedOfChannel]
    taken: tuple[TakenPlace, ...]


@dataclass(frozen=True)
class BoundedGroup:
    """A group of voters whose contacts a plan limits.

    Attributes:
        name: As declared.
        low: Least share of all contacts.
        high: Greatest share of all contacts.
        most: Contacts at most; None for no limit.
        n: Contacts of the plan.
        n_without: Contacts, were there no limits on groups.
        share: Of all contacts of the plan.
        share_without: Of all contacts, were there no limits on groups.
    """

    name: str
    low: float
    high: float
    most: float | None
    n: int
    n_without: int
    share: float
    share_without: float


@dataclass(frozen=True)
class PriceOfGroups:
    """What limits on groups of voters cost a plan.

    Attributes:
        value: Predicted value of the plan, in the campaign's units of worth.
        value_without: The same, were there no limits on groups.
        groups: The groups.
    """

    value: float
    value_without: float
    groups: tuple[BoundedGroup, ...]

    @property
    def price(self) -> float:
        """Predicted value given up for the limits, at least 0."""
        return max(self.value_without - self.value, 0.0)

    @property
    def share(self) -> float:
        """The price as a share of what the plan without them would be worth."""
        return self.price / self.value_without if self.value_without > 0 else 0.0


@dataclass(frozen=True)
class PlanSummary(Stored):
    """What the report says of a plan; counts only.

    Attributes:
        budget_usd: Money.
        spent_usd: Cost of the contacts and set-up fees.
        shadow_price: Outcome units of one more dollar; None where audiences differ.
        optimality_gap: Share of the bound that the plan may fall short of the best.
        bound: No plan for those planned is worth more.
        value: Predicted value of the plan for them.
        limits: Every limit, the one whose step brings most first.
        setup_usd: Fees of channels.
        closed: Channels and messages that are not used since they would have to be
            paid, or used more, as a whole.
        n_contacts: Contacts.
        explore_share: Probability to explore of a voter who is not held out.
        roles: Voters by role.
        contacts_by_day: By day and channel.
        planned: By message, channel and role.
        not_eligible: Voters by the reason why they could not be contacted.
        segments: By segment.
        reasons: Why each planned message is sent.
        judged: Planned policies beside what was judged of them.
        online: What the endpoint has sent and offers, off the budget.
        places: What whole places get; None where nothing is offered to places.
        groups: What limits on groups cost; None where no group has any.
    """

    budget_usd: float
    spent_usd: float
    shadow_price: float | None
    optimality_gap: float
    bound: float
    value: float
    limits: tuple[LimitUse, ...]
    setup_usd: float
    closed: tuple[str, ...]
    n_contacts: int
    explore_share: float
    roles: Mapping[str, int]
    contacts_by_day: tuple[ContactsOfDay, ...]
    planned: tuple[PlannedArm, ...]
    not_eligible: tuple[NotEligible, ...]
    segments: tuple[PlannedSegment, ...]
    reasons: tuple[MessageReasons, ...] = ()
    judged: tuple[Agreement, ...] = ()
    online: OnlineUse = OnlineUse()
    places: PlannedPlaces | None = None
    groups: PriceOfGroups | None = None


@dataclass(frozen=True)
class ExpectedMessage:
    """Average effect that is expected of a message that was never sent.

    Attributes:
        effect: In outcome units, higher is better.
        outside: Whether the message is unlike all that were tested, so that it is
            expected to do what any message does, with a wide interval.
    """

    effect: Interval
    outside: bool


@dataclass(frozen=True)
class Unseen:
    """Messages that were never sent.

    Attributes:
        scored: Those that were scored by what they say, or by what others know.
        not_scored: Why each of the others was not.
        expected: What each is expected to do by forecasts, earlier campaigns, texts
            and tests; empty where a campaign has no forecasts and no past effects.
    """

    scored: tuple[str, ...]
    not_scored: Mapping[str, str]
    expected: Mapping[str, ExpectedMessage] = field(default_factory=dict)


@dataclass(frozen=True)
class RunRecord(Stored):
    """Facts of a run, as run.json holds them; None until a stage notes them.

    Attributes:
        run_id: Name of the run.
        campaign: Its campaign.
        seed: Of the campaign.
        snapshot: The voter file that was read.
        electorate: Voters by what changed since the file before.
        versions: Of Python and of libraries.
        git_commit: Of the code.
        data_hash: Of all data that were read.
        rows: By table.
        data_hashes: SHA-256 by table.
        features_left_out: Columns that are no features, by the reason.
        voter_files: Voters by the day of the voter file.
        mlflow_run_id: The run in MLflow.
        mlflow_uri: Its server or store.
        champion_before: Version of the champion, and whether it was compared.
        unseen: Messages that were never sent.
        n_scores: Scores written.
        plan_id: The plan in the ledger.
        plan: Its summary.
        ledger: The ledger's end after the plan was drafted.
        timings_s: Seconds by stage.
    """

    run_id: str | None = None
    campaign: str | None = None
    seed: int | None = None
    snapshot: str | None = None
    electorate: Mapping[str, int] | None = None
    versions: Mapping[str, str] | None = None
    git_commit: str | None = None
    data_hash: str | None = None
    rows: Mapping[str, int] | None = None
    data_hashes: Mapping[str, str] | None = None
    features_left_out: Mapping[str, tuple[str, ...]] | None = None
    voter_files: Mapping[str, int] | None = None
    mlflow_run_id: str | None = None
    mlflow_uri: str | None = None
    champion_before: Mapping[str, str | bool] | None = None
    unseen: Unseen | None = None
    n_scores: int | None = None
    plan_id: str | None = None
    plan: PlanSummary | None = None
    ledger: Mapping[str, int | str] | None = None
    timings_s: Mapping[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values, without what is not noted yet."""
        return {k: v for k, v in super().to_json().items() if v is not None}


def record_of_run(folder: Path) -> RunRecord:
    """What was noted of the run in a folder so far."""
    path = folder / "run.json"
    return RunRecord.from_json(json.loads(path.read_text()) if path.exists() else {})


@dataclass(frozen=True)
class GroupPlanned:
    """What is planned for a group of voters that a policy tree found.

    Attributes:
        n_voters: Voters of the group.
        n_planned: Of them with a contact.
        n_message: Of those with the group's own message.
        cost_usd: Of their contacts.
    """

    n_voters: int
    n_planned: int
    n_message: int
    cost_usd: float


@dataclass(frozen=True)
class CountyPlanned(Stored):
    """What is planned in a county; None where few people are planned.

    Attributes:
        county: Its code.
        n_voters: Voters.
        n_planned: Of them with a contact.
        cost_usd: Of their contacts.
        gain: Predicted, outcome units.
    """

    county: str
    n_voters: int
    n_planned: int
    cost_usd: float | None
    gain: float | None


@dataclass(frozen=True)
class PlacesPlanned:
    """What is planned by county, and the map to show it on.

    Attributes:
        counties: By code.
        topology: The map, its shapes with the county as their properties; None where
            it could not be read.
        not_on_map: Codes of counties that the map lacks.
        fault: Why the map could not be read.
    """

    counties: tuple[CountyPlanned, ...]
    topology: Topology | None = None
    not_on_map: tuple[str, ...] = ()
    fault: str = ""


# --- the data ---


@dataclass(frozen=True)
class WeekRatio:
    """Whether tests got the shares of their designs in a week.

    Attributes:
        week: Its Monday, ISO date.
        n_tests: Blocks checked.
        n_failing: Of them that fail.
        p_value: Chance of as many.
        flagged: Whether more fail than chance allows.
    """

    week: str
    n_tests: int
    n_failing: int
    p_value: float
    flagged: bool


@dataclass(frozen=True)
class Source(Stored):
    """A table as it was brought, and what it may be used for.

    Attributes:
        table: Its name.
        source: Where it comes from.
        licence: Of the data.
        permitted_use: What it may be used for.
        rows_in: Rows read.
        accepted: Rows kept.
        quarantined: Rows set aside.
        sha256: Of the file.
    """

    table: str
    source: str
    licence: str
    permitted_use: str
    rows_in: int
    accepted: int
    quarantined: int
    sha256: str


# --- measured lift --------------------------------------------------------------------


@dataclass(frozen=True)
class StatedInterval:
    """An interval as it is written: an end that is not finite is None.

    Attributes:
        value: The estimate.
        low: Lower end.
        high: Upper end.
    """

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class LiftRow(Stored):
    """One measured lift, in outcome units; what is not known is None.

    Attributes:
        estimand: `delivered`, `not_voted`, `population` or `surrogate`.
        message_id: Empty for all.
        channel: Empty for all.
        segment: Empty for all.
        n_sent: Voters sent it, with an outcome in.
        n_compared: Voters compared with, with an outcome in.
        claimed: Whether it is claimed to differ from nil.
        predicted: Mean predicted lift of the same voters.
        lift: Measured.
        se: Its standard error.
        once_low: 95 % for one look at one row.
        once_high: Its upper end.
        always_low: 95 % at all looks together.
        always_high: Its upper end.
        claim_low: At the level of the claims.
        claim_high: Its upper end.
        shrunken: After empirical Bayes over the messages.
        shrunken_low: 95 % of it.
        shrunken_high: Its upper end.
    """

    estimand: str
    message_id: str
    channel: str
    segment: str
    n_sent: int
    n_compared: int
    claimed: bool
    predicted: float | None
    lift: float | None
    se: float | None
    once_low: float | None
    once_high: float | None
    always_low: float | None
    always_high: float | None
    claim_low: float | None
    claim_high: float | None
    shrunken: float | None
    shrunken_low: float | None
    shrunken_high: float | None

    @property
    def is_overall(self) -> bool:
        """Whether it is the lift of all that was delivered."""
        parts = (self.message_id, self.channel, self.segment)
        return self.estimand == DELIVERED and not any(parts)


@dataclass(frozen=True)
class SentOnline:
    """What was sent online as of a moment: counted, and measured by nobody.

    Attributes:
        n_contacts: Contacts that no plan had decided.
        n_voters: Voters who got them.
        usd: Their money.
        n_set_aside: Decisions of plans that are not compared, of voters who had been
            offered something online before, or would have been if not held out.
    """

    n_contacts: int = 0
    n_voters: int = 0
    usd: float = 0.0
    n_set_aside: int = 0

    def sentences(self) -> list[str]:
        """The same in words; nothing where nothing was offered online."""
        lines = []
        if self.n_contacts:
            lines.append(
                f"Sent online: {self.n_contacts:,} contacts to {self.n_voters:,} "
                f"voters for ${self.usd:,.2f}, no chance drawn: counted, not measured."
            )
        if self.n_set_aside:
            lines.append(
                f"{self.n_set_aside:,} decisions of plans are left aside, of voters "
                "who had been offered something online before, or would have been if "
                "not held out: which of them were left for the plan was no chance."
            )
        return lines


MORE, LESS, OPEN = "more_than_chance", "less_than_nothing", "may_be_chance"
TOO_FEW, DISTRUSTED = "too_few_outcomes", "not_to_be_trusted"
"""Verdicts on a measured lift."""
VERDICT_WORDS = {
    MORE: "More than chance.",
    LESS: "Less than nothing was gained.",
    OPEN: "That may still be chance.",
}


def lift_verdict(low: float, high: float) -> str:
    """Whether a measured lift is more than chance, by its interval at every look."""
    return MORE if low > 0 else LESS if high < 0 else OPEN


@dataclass(frozen=True)
class LiftSummary(Stored):
    """What a campaign's plans brought so far, as lift.json holds it.

    Attributes:
        as_of: When looked at, ISO date.
        sentences: What staff may conclude.
        trusted: Whether no alarm forbids to read the lifts as lifts.
        n_decided: Voters decided, held-out shadows among them.
        n_due: Of them whose outcome is due.
        n_in: Of them whose outcome is in.
        n_waiting: Of those due, voters of plans that hardly anybody has answered yet.
        n_repeats_left_out: Later decisions left out by the rule on repeats.
        information: Days with outcomes, as a share of the declared horizon.
        multiplicity: How many looks and rows are allowed for.
        sample_ratio: Whether designs' shares came out.
        attrition_p: Whether outcomes are missing alike, planned and held out.
        gained: Outcome units brought to all who were sent something by the plan.
        calibration: Predicted beside measured; None where too few outcomes are in.
        surrogate: The link of an early outcome; None where there is none.
        repeats: Effects of two contacts; None where only the first counts.
        reached: Lift of the voters really reached; None where no channel reported.
        rows: All lifts.
        sent_online: What was sent by no plan.
        n_voted_before: Voters decided who had voted when they were assigned.
    """

    as_of: str
    sentences: tuple[str, ...]
    trusted: bool
    n_decided: int
    n_due: int
    n_in: int
    n_waiting: int
    n_repeats_left_out: int
    information: float
    multiplicity: str
    sample_ratio: Mapping[str, float | bool | tuple[str, ...] | Mapping[str, float]]
    attrition_p: float
    gained: StatedInterval | None
    calibration: Mapping[str, StatedInterval | bool | float] | None
    surrogate: Mapping[str, StatedInterval | bool | float | str | None] | None
    repeats: Mapping[str, StatedInterval] | None
    reached: Mapping[str, StatedInterval | int] | None
    rows: tuple[LiftRow, ...]
    sent_online: SentOnline = SentOnline()
    n_voted_before: int = 0

    @property
    def overall(self) -> LiftRow | None:
        """Lift of all that was delivered; None where too few outcomes are in."""
        rows = (row for row in self.rows if row.is_overall)
        return next(rows, None)

    @property
    def verdict(self) -> str:
        """MORE, LESS or OPEN; DISTRUSTED or TOO_FEW where nothing can be said."""
        if not self.trusted:
            return DISTRUSTED
        row = self.overall
        if row is None or row.always_low is None or row.always_high is None:
            return TOO_FEW
        return lift_verdict(row.always_low, row.always_high)


class Detectable(NamedTuple):
    """Detectable lifts and cost of one holdout share.

    Attributes:
        holdout_share: Share of the audience.
        n_sent: Contacts that are sent, the held out excluded.
        n_compared: Voters chosen by the plan who are held out.
        once: Detectable overall lift with one look at the end, outcome units.
        daily: Detectable overall lift with a look every day, outcome units.
        by_message: Detectable lift of one message with a look every day, allowing for
            a claim about every message, outcome units.
        power: Chance that the believed lift of the best message is seen at the end.
        of_held_out: Outcome units that the held out would have gained.
        of_others: Outcome units that their money gains among other voters.
        forgone: The difference: what the holdout really costs.
        unspent_usd: Money for which there is nobody left to contact.
    """

    holdout_share: float
    n_sent: int
    n_compared: int
    once: float
    daily: float
    by_message: float
    power: float
    of_held_out: float
    of_others: float
    forgone: float
    unspent_usd: float


class RecommendedHoldout(NamedTuple):
    """The holdout that a campaign is advised to declare, and why.

    Attributes:
        share: Share of the audience; one of those that were compared.
        is_enough: Whether the lift that is believed is seen there in 4 of 5 campaigns.
        why: In words.
    """

    share: float
    is_enough: bool
    why: str
