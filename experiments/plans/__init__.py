"""The lifecycle of a plan: draft → approved → locked → sent → returned, in the ledger.

    record  = draft(home, plan_id, plan, assignments, facts, keys=keys, at=at)
    approve(home, plan_id, by="A. Name", at=at); lock(home, plan_id, at=at)
    send(home, plan_id, "2026-09-01-mail", voter_ids, at=at)
    returned(home, plan_id, failed=failed, invoices=invoices, at=at)

A plan is a folder `<home>/plans/<plan_id>/`; its state is what the ledger says. Every
step is idempotent: a process that was interrupted takes it again without effect.
"""

from hustings.experiments.plans.checks import content_digest
from hustings.experiments.plans.diff import PlanDiff, diff, diff_text
from hustings.experiments.plans.erasure import forgetting, forgotten, n_forgotten
from hustings.experiments.plans.folder import PLANS, folder_of
from hustings.experiments.plans.queries import (
    ListedPlan,
    batches_of,
    contacts_sent,
    decided_so_far,
    find,
    listed_plans,
    offered,
    place_batches_of,
    plan_faults,
    plans,
    read_returned,
    spent,
    state,
    unaltered_plans,
)
from hustings.experiments.plans.record import (
    APPROVED,
    BINDING,
    CANCELLED,
    DRAFT,
    LIVE,
    LOCKED,
    REJECTED,
    RETURNED,
    SENT,
    PlanRecord,
    PlanStepError,
)
from hustings.experiments.plans.steps import (
    COLUMNS,
    PlanFacts,
    approve,
    cancel,
    draft,
    lock,
    record_of,
    reject,
    returned,
    send,
    send_online,
    send_places,
    sent_online,
    to_undo,
    undo,
)

__all__ = [
    "APPROVED",
    "BINDING",
    "CANCELLED",
    "COLUMNS",
    "DRAFT",
    "LIVE",
    "LOCKED",
    "PLANS",
    "REJECTED",
    "RETURNED",
    "SENT",
    "ListedPlan",
    "PlanDiff",
    "PlanFacts",
    "PlanRecord",
    "PlanStepError",
    "approve",
    "batches_of",
    "cancel",
    "contacts_sent",
    "content_digest",
    "decided_so_far",
    "diff",
    "diff_text",
    "draft",
    "find",
    "folder_of",
    "forgetting",
    "forgotten",
    "listed_plans",
    "lock",
    "n_forgotten",
    "offered",
    "place_batches_of",
    "plan_faults",
    "plans",
    "read_returned",
    "record_of",
    "reject",
    "returned",
    "send",
    "send_online",
    "send_places",
    "sent_online",
    "spent",
    "state",
    "to_undo",
    "unaltered_plans",
    "undo",
]
