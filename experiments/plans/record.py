"""Plan records: the steps of every plan from the ledger, and the state they imply.

The ledger is the only place that holds the state. The entry of its assignments opens a
plan; every further step is an entry with the plan's name. The state, the digests of
the files and the money are derived from these entries in their order.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hustings.experiments.plans.ledger import Ledger, LedgerEntry

Json = dict[str, Any]

DRAFT, APPROVED, LOCKED, SENT, RETURNED, REJECTED, CANCELLED = STATES = (
    "draft", "approved", "locked", "sent", "returned", "rejected", "cancelled",
)  # fmt: skip
BINDING = (LOCKED, SENT, RETURNED)
"""States in which a plan's contacts happen: its voters are decided, its money is."""
LIVE = (DRAFT, APPROVED, *BINDING)
"""States in which they may still happen."""

UNDONE = "undone"
"""A step that takes earlier ones back; their entries stay."""

ASSIGNMENT = "assignment"
"""Kind of the entries about persons; the entry that opens them opens the plan."""
OPENING = f"{ASSIGNMENT} opened"
FORGOTTEN, FORGETTING = "plan forgotten", "plan forgetting"
"""Files that were rewritten since a person was forgotten; and which will be."""

_MAY_FOLLOW = {
    APPROVED: (DRAFT,),
    REJECTED: (DRAFT, APPROVED),
    LOCKED: (APPROVED,),
    SENT: (LOCKED, SENT, RETURNED),
    RETURNED: (SENT, RETURNED, CANCELLED),
    CANCELLED: LIVE,
    UNDONE: BINDING,
}


class PlanStepError(ValueError):
    """A plan may not take this step; the message says what was expected."""


class Step(NamedTuple):
    """One entry about a plan.

    Attributes:
        seq: Of the ledger's entry.
        at: When, ISO 8601.
        to: State that it leads to, `FORGOTTEN` or `UNDONE`.
        key: What tells it from other steps of its kind: a batch; empty for none.
        body: All that the entry says.
    """

    seq: int
    at: str
    to: str
    key: str
    body: Json


@dataclass(frozen=True)
class PlanRecord:
    """Record of one plan in the ledger.

    Attributes:
        plan_id: Name of its folder.
        steps: From its draft on, those that were undone among them.
    """

    plan_id: str
    steps: tuple[Step, ...]

    @property
    def draft_body(self) -> Json:
        """Body of the draft's entry."""
        return self.steps[0].body

    @property
    def standing(self) -> tuple[Step, ...]:
        """Steps that no later one has taken back."""
        undone = {seq for s in self.steps if s.to == UNDONE for seq in s.body["undoes"]}
        return tuple(step for step in self.steps if step.seq not in undone)

    @property
    def state(self) -> str:
        """State of the plan."""
        moved = [step.to for step in self.standing if step.to in STATES]
        # an invoice may come after the rest was cancelled
        return CANCELLED if CANCELLED in moved else moved[-1]

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of every file that it must have, by path in its folder.

        Files of steps that were undone stay, as their entries do.
        """
        digests: dict[str, str] = {}
        for step in self.steps:
            digests.update(step.body.get("files", {}))
        return digests

    @property
    def drafted_at(self) -> str:
        """When it was drafted."""
        return self.steps[0].at

    @property
    def binds(self) -> bool:
        """Whether its voters are decided and its money is committed."""
        return self.state in BINDING

    def of(self, to: str) -> list[Step]:
        """Steps of the plan of one kind, without those that were undone."""
        return [step for step in self.standing if step.to == to]

    def has(self, to: str, key: str = "") -> bool:
        """Whether a step was taken."""
        return any(step.key == key for step in self.of(to))

    def require(self, to: str) -> None:
        """Refuse a step that may not follow.

        Raises:
            PlanStepError: Naming the states in which it may.
        """
        expected = _MAY_FOLLOW[to]
        handed = to != RETURNED or bool(self.of(SENT))
        if self.state not in expected or not handed:
            raise PlanStepError(
                f"plan {self.plan_id}: to be {to}, expected it to be "
                f"{' or '.join(expected)}, got {self.state}"
            )


def records(entries: Iterable[LedgerEntry]) -> dict[str, PlanRecord]:
    """Plans in the order of their drafts.

    Args:
        entries: About nobody in particular, in the ledger's order.
    """
    steps: dict[str, list[Step]] = {}
    for entry in entries:
        if entry.kind == OPENING or entry.kind.startswith("plan "):
            body = json.loads(entry.body)
            # a batch of assignments that no plan's folder goes with is no plan
            if "plan" in body:
                to = _leads_to(entry.kind)
                step = Step(entry.seq, entry.at, to, body.get("key", ""), body)
                steps.setdefault(body["plan"], []).append(step)
    return {
        plan: PlanRecord(plan, tuple(steps_of_plan))
        for plan, steps_of_plan in steps.items()
    }


def known_plans(ledger: Ledger) -> dict[str, PlanRecord]:
    """Plans of a campaign, in the order of their drafts."""
    return records(ledger.of_nobody())


def plan_of_name(plan_records: Mapping[str, PlanRecord], plan_id: str) -> PlanRecord:
    """A plan by its name.

    Raises:
        PlanStepError: If there is none of this name.
    """
    if plan_id not in plan_records:
        there = ", ".join(list(plan_records)[-5:]) or "none yet"
        raise PlanStepError(f"expected one of the plans ({there}), got {plan_id!r}")
    return plan_records[plan_id]


def kind_of(to: str) -> str:
    """Kind of the ledger's entry of a step.

    >>> kind_of("locked"), kind_of("draft")
    ('plan locked', 'assignment opened')
    """
    return OPENING if to == DRAFT else f"plan {to}"


def _leads_to(kind: str) -> str:
    if kind in {FORGOTTEN, FORGETTING}:
        return kind
    return DRAFT if kind == OPENING else kind.removeprefix("plan ")
