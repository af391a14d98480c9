"""Recommendations: the ledger's own row, or the priced offer that remains.

A voter whom a plan that binds has decided gets what was decided, the draw included.
Anybody else gets the option that is worth most after the plan's prices, as far as money
and the day's capacities reach that nobody has taken yet.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Ints
from hustings.features.tables import CONTROL
from hustings.features.training_set import Arm
from hustings.serving.decided import DecidedRecord, PastDecision
from hustings.serving.decisions import (
    HELD_OUT,
    ONLINE,
    HandedOut,
    Turn,
    expiry,
    microseconds,
    moment,
    new_decision_id,
)
from hustings.serving.eligible import ALREADY_VOTED, send_window
from hustings.serving.offer import Offer, OfferSettings
from hustings.serving.plan import Limits, priced
from hustings.serving.plan.explain import explained, options_of
from hustings.serving.rules import WORDS, RuleSet
from hustings.training.policy_value.policies import Policy

Json = dict[str, Any]

BREAK_EVEN = 1e-6
"""Prices are found to about this share: an option nearer than that just breaks even."""
_ROUNDING_USD = 1e-9
"""Sums of doubles are only so exact."""

HOLDOUT, REPLAY, NO_LIFT, BARRED = HELD_OUT, "research_replay", "no_lift", "barred"
TOO_DEAR, NO_PERMISSION, HOUSEHOLD = "not_worth_cost", "no_permission", "household"
EXCLUDED, BACKLASH, POLICY = "excluded", "backlash", "policy"
GUARDED = "guardrail"
BUDGET_SPENT, CAPACITY_USED = "budget_spent", "capacity_used"
ALREADY_DECIDED, DRAWN_NOTHING = "already_decided", "drawn_nothing"

_ROLES: Mapping[str, str] = {
    "plan": "chose this at its prices",
    "explore": "drew this at random, so that every message goes on being measured",
}
"""What a plan did, by the role of the voter."""


@dataclass(frozen=True)
class AudiencePrices:
    """Arms of one audience, with their costs and prices.

    Attributes:
        settings: Of the offer.
        policy: Chosen for the campaign.
        arms: What can be sent, length A.
        cost: USD of every arm, shape (A,).
        price: Value that a contact by every arm has to bring, shape (A,).
    """

    settings: OfferSettings
    policy: Policy
    arms: tuple[Arm, ...]
    cost: Floats
    price: Floats

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read an audience of plan.json."""
        arms = stored["arms"]
        return cls(
            OfferSettings.from_json(stored["settings"]),
            Policy.from_json(stored["policy"]),
            tuple(Arm(a["message_id"], a["channel"]) for a in arms),
            np.array([a["cost_usd"] for a in arms], dtype=np.float64),
            np.array([a["price"] for a in arms], dtype=np.float64),
        )


@dataclass(frozen=True)
class CampaignLimits:
    """Limits of the whole campaign.

    Attributes:
        budget_usd: Money in all.
        capacity_by_channel: Contacts a day of a channel; others have no limit.
        capacity_per_day: Contacts a day of all channels; None for no limit.
        contacts_per_voter: How often one voter may be decided.
        window_days: Days from one decision to the next; None for never again.
    """

    budget_usd: float
    capacity_by_channel: Mapping[str, float]
    capacity_per_day: float | None
    contacts_per_voter: int
    window_days: int | None

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Self:
        """Read `limits` of plan.json."""
        return cls(**{name: stored[name] for name in cls.__dataclass_fields__})


class RemainingLimits(NamedTuple):
    """Limits less what has been taken.

    Attributes:
        usd: Money.
        by_channel: Contacts that are left today, by channel; others have no limit.
        contacts: Contacts that are left today in all.
    """

    usd: float
    by_channel: Mapping[str, float]
    contacts: float


class Unit(NamedTuple):
    """Units in which the outcome is stated.

    Attributes:
        size: Outcome units of one.
        name: Such as "points".
    """

    size: float
    name: str


@dataclass(frozen=True)
class Block:
    """Voters of one request, with all that is known of them.

    Attributes:
        offer: What they may be offered, n voters by A arms.
        prices: Of their audience.
        rules: The rule set.
        held: Whether each is held out, or forgotten, shape (n,).
        shadowed: Whether each is held out and not forgotten, shape (n,).
        past: What plans have decided about each, length n.
        at: Now, UTC without a zone.
        unit: In which `why` is stated; None where nobody asks why.
    """

    offer: Offer
    prices: AudiencePrices
    rules: RuleSet
    held: Bools
    shadowed: Bools
    past: Sequence[Sequence[PastDecision]]
    at: pd.Timestamp
    unit: Unit | None

    def __len__(self) -> int:
        return len(self.offer)

    @cached_property
    def now(self) -> int:
        """Now, microseconds since 1970."""
        return microseconds(self.at)

    @cached_property
    def expires_at(self) -> int:
        """When what is handed out now expires, microseconds since 1970."""
        return expiry(self.at)

    @cached_property
    def voter_ids(self) -> list[str]:
        """Ids, length n."""
        return [str(voter) for voter in self.offer.voter_id]

    @cached_property
    def voted(self) -> Bools:
        """Voters who have voted already, where the rules ask for it, shape (n,)."""
        voted = np.zeros(len(self), dtype=bool)
        for reasons in self.offer.eligibility.codes.values():
            voted |= reasons.get(ALREADY_VOTED, False)
        return voted

    @cached_property
    def not_barred(self) -> Bools:
        """Arms whose message may be sent to anybody at all, shape (A,)."""
        stopped = self.offer.eligibility.barred_messages
        return np.array([a.message_id not in stopped for a in self.prices.arms], bool)


class _Answered(NamedTuple):
    """The answer about one voter, and the decision that is handed out with it."""

    answer: Json
    decision: HandedOut | None = None


def recommendations(
    block: Block, turn: Turn, limits: CampaignLimits, decided: DecidedRecord | None
) -> list[Json]:
    """Recommendations to every voter of a request, made in one transaction.

    Args:
        block: The voters.
        turn: The transaction: nobody else decides in the meantime.
        limits: Of the campaign.
        decided: Its plans; None where they are not known here.

    Returns:
        Of each voter `voter_id`, `recommendation` (None for nothing) and `reason`.
    """
    ids = block.voter_ids
    about = _decided_here(ids, turn, decided)
    sent = {v: [d for d in ds if d.sent_at is not None] for v, ds in about.items()}
    live = {
        d.voter_id: d
        for v, ds in about.items()
        for d in ds
        # under a former id a reservation is another's
        if d.sent_at is None and d.voter_id == v
    }
    fates = [_fate(block, i, sent.get(v, []), limits) for i, v in enumerate(ids)]
    left = _remaining(limits, turn, list(live.values()), decided, block.at)
    free = np.array([fate is None for fate in fates], dtype=bool)
    chosen = priced_choice(block, free, left, _would_be_free(block, limits))
    answered = [
        _with_shadow(fate, block, i, chosen)
        if fate
        else _priced_answer(block, i, chosen)
        for i, fate in enumerate(fates)
    ]
    decisions = [
        None
        if a.decision is None
        else _again(a.decision, live.get(a.decision.voter_id))
        for a in answered
    ]
    handed = [d for d in decisions if d is not None]
    before = {d.decision_id: d for d in live.values()}
    replaced = before.keys() - {d.decision_id for d in handed}
    if replaced:
        turn.release([before[name] for name in sorted(replaced)])
    if handed:
        turn.hand_out(handed, before)
    return [
        {"voter_id": v, **_with_decision(a.answer, d)}
        for v, a, d in zip(ids, answered, decisions, strict=True)
    ]


def _decided_here(
    ids: Sequence[str], turn: Turn, decided: DecidedRecord | None
) -> dict[str, list[HandedOut]]:
    """What is open or was sent to each voter, under whichever id the person had."""
    former_ids = {} if decided is None else decided.also_known_as(ids)
    asked_as = {**former_ids, **dict(zip(ids, ids, strict=True))}
    about: dict[str, list[HandedOut]] = {}
    for decision in turn.of_voters(list(asked_as)):
        about.setdefault(asked_as[decision.voter_id], []).append(decision)
    return {v: sorted(ds, key=lambda d: d.sent_at or 0) for v, ds in about.items()}


def nothing(code: str, text: str, **details: Any) -> Json:
    """An answer that recommends nothing."""
    return {"recommendation": None, "reason": {"code": code, "text": text, **details}}


def _again(decision: HandedOut, before: HandedOut | None) -> HandedOut:
    """The decision that a voter has already, where it is the same, for longer."""
    if before is None:
        return decision
    same = ("plan_id", "role", "message_id", "channel", "model_version")
    if any(getattr(before, name) != getattr(decision, name) for name in same):
        return decision
    return before._replace(expires_at=decision.expires_at)


def _with_decision(answer: Json, decision: HandedOut | None) -> Json:
    if decision is None or decision.role == HELD_OUT:
        return answer
    details = {
        "decision_id": decision.decision_id,
        "propensity": decision.propensity,
        "expires_at": moment(decision.expires_at).isoformat(),
    }
    return {**answer, "recommendation": {**answer["recommendation"], **details}}


# --- those held out -------------------------------------------------------------------


def _would_be_free(block: Block, limits: CampaignLimits) -> Bools:
    """Held-out voters who would be offered anew if they were not, shape (n,)."""
    return np.array(
        [
            shadowed and (not past or _may_again(block, past, [], limits))
            for shadowed, past in zip(block.shadowed, block.past, strict=True)
        ],
        dtype=bool,
    )


# --- what was decided before ----------------------------------------------------------


def _fate(
    block: Block, i: int, sent: Sequence[HandedOut], limits: CampaignLimits
) -> _Answered | None:
    """The answer that is settled for a voter; None for one who may be offered anew."""
    past = block.past[i]
    last = past[-1] if past else None
    is_due = last is not None and not (
        last.handed_over or any(d.plan_id == last.plan_id for d in sent)
    )
    if block.held[i] or (last is not None and is_due and last.role == "holdout"):
        text = "in the holdout, which is never contacted"
        held_by = last if last is not None and last.role == "holdout" else None
        return _Answered(nothing(HOLDOUT, text, **_by_plan(held_by)))
    if block.voted[i]:
        text = f"the voter {WORDS[ALREADY_VOTED]}"
        return _Answered(nothing(ALREADY_VOTED, text, **_by_plan(last)))
    online = [d for d in sent if d.is_online]
    if last is not None and is_due:
        # sent something online since the plan was drafted, which did not know of it
        again = not online or _may_again(block, past[:-1], online, limits)
        return _due(block, i, last) if again else _already([], online)
    if not past and not online:
        return None
    return None if _may_again(block, past, online, limits) else _already(past, online)


def _by_plan(past: PastDecision | None) -> Json:
    if past is None:
        return {}
    return {
        "plan_id": past.plan_id, "role": past.role, "propensity": past.propensity,
    }  # fmt: skip


def _may_again(
    block: Block,
    past: Sequence[PastDecision],
    online: Sequence[HandedOut],
    limits: CampaignLimits,
) -> bool:
    """Whether the campaign allows another contact by now."""
    if len(past) + len(online) >= limits.contacts_per_voter:
        return False
    today = block.at.normalize()
    days = [(p.decided_on, p.window_days) for p in past] + [
        (moment(d.sent_at or 0).tz_localize(None), limits.window_days) for d in online
    ]
    return all(
        window is not None and today - day.normalize() >= pd.Timedelta(days=window)
        for day, window in days
    )


def _already(past: Sequence[PastDecision], online: Sequence[HandedOut]) -> _Answered:
    if past:
        last = past[-1]
        text = f"already decided by plan {last.plan_id} on {last.decided_on:%Y-%m-%d}"
        return _Answered(nothing(ALREADY_DECIDED, text, **_by_plan(last)))
    decision = online[-1]
    day = moment(decision.sent_at or 0)
    text = f"already decided here, and sent on {day:%Y-%m-%d}"
    return _Answered(
        nothing(ALREADY_DECIDED, text, decision_id=decision.decision_id, plan_id=None)
    )


def _due(block: Block, i: int, past: PastDecision) -> _Answered:
    """A contact that a plan has decided and nobody has carried out yet."""
    if past.message_id == CONTROL:
        text = f"plan {past.plan_id} drew nothing for this voter"
        return _Answered(nothing(DRAWN_NOTHING, text, **_by_plan(past)))
    arm = Arm(past.message_id, past.channel)
    if arm not in block.prices.arms:
        text = f"plan {past.plan_id} has decided, for another audience"
        return _Answered(nothing(ALREADY_DECIDED, text, **_by_plan(past)))
    k = block.prices.arms.index(arm)
    if not block.offer.eligibility.allowed[i, k]:
        code = NO_PERMISSION if block.not_barred[k] else BARRED
        text = f"plan {past.plan_id} sends {arm.message_id} by {arm.channel}: "
        why = _refusal(block, i, k) or "it may not be sent now"
        return _Answered(nothing(code, text + why, **_by_plan(past)))
    decision = _decision(block, i, k)._replace(
        plan_id=past.plan_id, experiment_id=past.experiment_id, role=past.role,
        propensity=past.propensity, arm_propensity=past.arm_propensity,
        predicted_lift=past.predicted_lift, model_version=past.model_version,
    )  # fmt: skip
    answer = _recommended(block, i, k, plan_id=past.plan_id, role=past.role)
    return _Answered(_explained(answer, block, i, k, past), decision)


# --- the priced offer -----------------------------------------------------------------


class PricedChoice(NamedTuple):
    """The options that are worth most after their prices, within what is left.

    Attributes:
        option: Arm of every voter, -1 for none, shape (n,).
        stopped: Code of the limit that kept a voter's unit from every option that
            pays; '' where none did, length n.
    """

    option: Ints
    stopped: list[str]


def priced_choice(
    block: Block, free: Bools, left: RemainingLimits, shadowed: Bools
) -> PricedChoice:
    """The best option of every unit at the plan's prices, the dearest to lose first.

    Args:
        block: The voters.
        free: Who may be offered anew, shape (n,). The others count for nothing.
        left: Limits less what has been taken.
        shadowed: Held-out voters, who get what they would get at their place in the
            order, and use nothing up, shape (n,).
    """
    offer, prices = block.offer, block.prices
    # nobody decides together with those who are held out
    unit = 2 * _codes(offer.unit.tolist()) + shadowed
    row = _codes(unit.tolist())
    allowed = offer.allowed & (free | shadowed)[:, None]
    value = _sums(np.where(allowed, offer.value, 0.0), row)
    reach = _sums(allowed, row)
    limits = Limits(prices.price[None, :], np.array([np.inf]))
    gain = priced(value, reach, limits, np.ones(1)) + BREAK_EVEN * reach * prices.price
    option, stopped = _within(gain, reach, prices, left, _sums(free[:, None], row) > 0)
    of_voter = option[row]
    may = allowed[np.arange(len(row)), of_voter] & (of_voter >= 0)
    return PricedChoice(np.where(may, of_voter, -1), [stopped[r] for r in row])


def _codes(values: Sequence[Hashable]) -> Ints:
    """Number of each value, in the order in which they come."""
    code: dict[Hashable, int] = {}
    codes = [code.setdefault(value, len(code)) for value in values]
    return np.array(codes, dtype=np.int64)


def _sums(table: Floats | Bools, row: Ints) -> Floats:
    sums = np.zeros((int(row.max()) + 1, table.shape[1]))
    np.add.at(sums, row, table)
    return sums


def _within(
    gain: Floats,
    reach: Floats,
    prices: AudiencePrices,
    left: RemainingLimits,
    uses: Bools,
) -> tuple[Ints, list[str]]:
    """Option of every unit, and the limit that kept it from one.

    Units that `uses` does not name use nothing up, shape (n_units, 1).
    """
    best = gain.argmax(axis=1)
    pays = gain[np.arange(len(gain)), best] >= 0
    option, stopped = np.where(pays, best, -1), [""] * len(gain)
    usd, by_channel, contacts = left.usd + _ROUNDING_USD, dict(left.by_channel), (
        left.contacts
    )  # fmt: skip
    for unit in np.argsort(-gain.max(axis=1), kind="stable"):
        if not pays[unit]:
            break
        option[unit] = -1
        for k in np.argsort(-gain[unit], kind="stable"):
            if gain[unit, k] < 0:
                break
            n, channel = reach[unit, k], prices.arms[k].channel
            if n * prices.cost[k] > usd:
                stopped[unit] = stopped[unit] or BUDGET_SPENT
            elif n > min(by_channel.get(channel, np.inf), contacts):
                stopped[unit] = stopped[unit] or CAPACITY_USED
            else:
                n *= uses[unit, 0]
                usd, contacts = usd - n * prices.cost[k], contacts - n
                by_channel[channel] = by_channel.get(channel, np.inf) - n
                option[unit], stopped[unit] = k, ""
                break
    return option, stopped


def _remaining(
    limits: CampaignLimits,
    turn: Turn,
    replaceable: Sequence[HandedOut],
    decided: DecidedRecord | None,
    at: pd.Timestamp,
) -> RemainingLimits:
    """Budget and capacities less what plans and other voters' reservations take."""
    taken = turn.taken()
    usd, n = limits.budget_usd - taken.usd, dict(taken.contacts)
    for d in replaceable:
        if d.reserves:
            usd += d.cost_usd
            n[d.channel] = n.get(d.channel, 0) - 1
    if decided is not None:
        usd -= decided.committed_usd()
        for channel, planned in decided.contacts_on(at).items():
            n[channel] = n.get(channel, 0) + planned
    by_channel = {
        channel: most - n.get(channel, 0)
        for channel, most in limits.capacity_by_channel.items()
    }
    in_all = limits.capacity_per_day
    contacts = np.inf if in_all is None else in_all - sum(n.values())
    return RemainingLimits(usd, by_channel, contacts)


def _priced_answer(block: Block, i: int, chosen: PricedChoice) -> _Answered:
    k = int(chosen.option[i])
    if k >= 0:
        answer = _recommended(block, i, k, plan_id=None, role="plan")
        return _Answered(_explained(answer, block, i, k, None), _decision(block, i, k))
    answer = _why_not(block, i, chosen.stopped[i])
    return _Answered(_explained(answer, block, i, None, None))


def _with_shadow(
    fate: _Answered, block: Block, i: int, shadow: PricedChoice
) -> _Answered:
    """The answer, with what a held-out voter would have been offered kept with it."""
    k = int(shadow.option[i])
    if k < 0:
        return fate
    return fate._replace(decision=_decision(block, i, k)._replace(role=HELD_OUT))


def _decision(block: Block, i: int, k: int) -> HandedOut:
    offer, arm = block.offer, block.prices.arms[k]
    return HandedOut(
        decision_id=new_decision_id(),
        voter_id=str(offer.voter_id[i]),
        plan_id=ONLINE,
        experiment_id=offer.experiment_of_arm[k],
        role="plan",
        message_id=arm.message_id,
        channel=arm.channel,
        propensity=1.0,
        arm_propensity=1.0,
        predicted_lift=float(offer.lift[i, k]),
        model_version=offer.model_version,
        cost_usd=float(offer.cost[k]),
        decided_at=block.now,
        expires_at=block.expires_at,
    )


def _recommended(
    block: Block, i: int, k: int, *, plan_id: str | None, role: str
) -> Json:
    arm, price = block.prices.arms[k], float(block.prices.price[k])
    value = float(block.offer.value[i, k])
    return {
        "recommendation": {
            "message_id": arm.message_id,
            "channel": arm.channel,
            "lift": float(block.offer.lift[i, k]),
            "value": value,
            "price": price,
            # of those alike the plan sends to some, drawn at random
            "at_margin": bool(abs(value - price) <= BREAK_EVEN * price),
            "cost_usd": float(block.prices.cost[k]),
            "plan_id": plan_id,
            "role": role,
            "hours": _hours(block.rules, arm.channel),
        },
        "reason": None,
    }


def _hours(rules: RuleSet, channel: str) -> Json | None:
    """Between which full hours, where the voter lives, the channel may be used."""
    if not rules.of("hours", channel):
        return None
    starts, until = send_window(rules, channel)
    return {"from": f"{starts:02}:00", "until": f"{until:02}:00"}


# --- why ------------------------------------------------------------------------------


def _why_not(block: Block, i: int, stopped: str) -> Json:
    """The first hurdle at which no arm is left."""
    offer, prices = block.offer, block.prices
    arms, channels = prices.arms, [arm.channel for arm in prices.arms]
    left = offer.value[i] > 0
    if not left.any():
        return nothing(NO_LIFT, "no message is predicted to lift")
    lifting, left = left, left & block.not_barred
    if not left.any():
        stops = offer.eligibility.barred_messages
        messages = dict.fromkeys(arms[a].message_id for a in np.flatnonzero(lifting))
        return nothing(BARRED, "; ".join(f"message {m} {stops[m]}" for m in messages))
    if offer.excluded[i]:
        return nothing(EXCLUDED, "the campaign contacts other voters only")
    left = left & ~offer.backlash[i]
    if not left.any():
        return nothing(BACKLASH, "lowers the outcome in the voter's segment")
    left = left & ~offer.guarded[i]
    if not left.any():
        return nothing(GUARDED, "harms what a guardrail protects in the voter's group")
    left = left & block.offer.in_policy[i]
    if not left.any():
        policy = prices.policy.name
        return nothing(POLICY, f"the policy {policy!r} sends no message that lifts")
    left = left & (offer.value[i] >= prices.price * (1 - BREAK_EVEN))
    if not left.any():
        return nothing(TOO_DEAR, "not worth its cost at the current price")
    closed = offer.eligibility.allowed[i]
    if not (left & closed).any():
        paying = dict.fromkeys(channels[a] for a in np.flatnonzero(left))
        text = ", ".join(f"{c} ({_channel_refusal(block, c, i)})" for c in paying)
        return nothing(
            NO_PERMISSION, f"no permission for any channel that pays: {text}"
        )
    if stopped == BUDGET_SPENT:
        return nothing(BUDGET_SPENT, "the money that is left does not cover it")
    if stopped == CAPACITY_USED:
        return nothing(CAPACITY_USED, "the day's contacts are used up")
    return nothing(
        HOUSEHOLD, "what the household decides on together does not reach it"
    )


def _channel_refusal(block: Block, channel: str, i: int) -> str:
    reasons = block.offer.eligibility.no_channel[channel]
    return next((why for why, voters in reasons.items() if voters[i]), "")


def _refusal(block: Block, i: int, k: int) -> str | None:
    """Why a voter may not get an arm, None where the voter may."""
    offer, arm = block.offer, block.prices.arms[k]
    if not block.not_barred[k]:
        return f"it {offer.eligibility.barred_messages[arm.message_id]}"
    if offer.excluded[i]:
        return "the campaign contacts other voters only"
    if offer.backlash[i, k]:
        return "it lowers the outcome in the voter's segment"
    if offer.guarded[i, k]:
        return "it harms what a guardrail protects in the voter's group"
    if not offer.in_policy[i, k]:
        return f"the policy {block.prices.policy.name!r} does not send it"
    return _channel_refusal(block, arm.channel, i) or None


def _explained(
    answer: Json, block: Block, i: int, sent: int | None, past: PastDecision | None
) -> Json:
    """The answer with what every option is worth, where somebody asks why."""
    if block.unit is None:
        return answer
    prices, arms = block.prices, block.prices.arms
    limits = Limits(
        prices.price[None, :], np.array([np.inf]), names=("the plan's limits",)
    )
    options = options_of(
        block.offer.value[[i]], arms, limits, np.ones(1),
        [_refusal(block, i, k) for k in range(len(arms))], np.array([0]),
    )  # fmt: skip
    cost = dict(zip(arms, (float(c) for c in prices.cost), strict=True))
    why = explained(
        options, None if sent is None else arms[sent], cost,
        unit=block.unit.size, unit_name=block.unit.name,
    )  # fmt: skip
    if past is not None:
        chance = f"with probability {past.propensity:.3g}"
        why = [f"Plan {past.plan_id} {_ROLES[past.role]}, {chance}.", *why]
    return {**answer, "why": why}
