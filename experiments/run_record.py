"""What a run says of itself: the facts of run.json, and the summary of its plan."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hustings.features.stored import Stored
from hustings.serving.plan.explain import LimitUse, MessageReasons
from hustings.training.estimators.metrics import Interval

STANDARD_ERRORS = 3.0
"""Differences up to so many standard errors are those of the sample."""
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


@dataclass(frozen=True)
class Unseen:
    """Messages that were never sent.

    Attributes:
        scored: Those that were scored by what they say.
        not_scored: Why each of the others was not.
    """

    scored: tuple[str, ...]
    not_scored: Mapping[str, str]


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
