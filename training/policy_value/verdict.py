"""The verdict: whether personalising beats cheaper policies on held-out voters.

It turns the held-out halves of a message test into policy values, paired differences,
the cost curve, calibration, segments and checks, and one sentence with the answer.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from hustings.features.arrays import Floats, Ints, Objects
from hustings.features.message import MessageFeatures
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import (
    Z95,
    Interval,
    attrition_p_value,
    calibration_slope,
    permute_within_blocks,
    sample_ratio_p_value,
)
from hustings.training.estimators.sample_ratio import block_p_values, holm
from hustings.training.learners.average_effects import (
    USUAL_EFFECT,
    AverageEffects,
    judging_weight,
    overlap,
    towards_nothing,
)
from hustings.training.measured_lift.power import (
    ClaimCertainty,
    Noise,
    gate_power,
    times_larger,
    voters_needed,
)
from hustings.training.policy_value.effect_text import effect_text
from hustings.training.policy_value.gate import (
    BLOCKING,
    GATE_ALPHA,
    SPLIT_ALPHA,
    blocked_by,
    is_above_zero,
    spent_alpha,
)
from hustings.training.policy_value.held_out_halves import (
    BASELINES,
    UNTARGETED,
    Contender,
    HeldOutHalf,
    contended,
    judge_halves,
)
from hustings.training.policy_value.heterogeneity import (
    best_linear_predictor,
    lift_groups,
    pooled_slope,
    weighted_mean,
)
from hustings.training.policy_value.judged_policies import JudgedPolicies, joined
from hustings.training.policy_value.partner import winning_partner
from hustings.training.policy_value.policies import (
    CHAMPION,
    NOBODY,
    ONE_COVARIATE,
    PARTNER,
    PERSONALISED,
)
from hustings.training.policy_value.rate import TOC_SHARES, rate_of
from hustings.training.policy_value.results import (
    NOTHING_MAY_BE_SENT,
    ArmContacts,
    Evaluation,
    GatePower,
    Json,
    NextTest,
    PolicyValue,
    PowerAtGain,
    Verdict,
    VerdictName,
)
from hustings.training.policy_value.spending import Market

LABELS = {
    "nobody": "Nobody",
    "single_best": "Single best message, random people",
    "best_mix": "Best mix of messages, random people",
    "one_covariate": "One split",
    "personalised": "Personalised",
    "champion": "Present champion",
    "likely_persuadable": "Persuadable voters in likely areas",
    "segment_best": "Each group its best message",
    "group_platform": "Each group its best platform",
}
DESCRIPTIONS = {
    "nobody": "No message is sent.",
    "single_best": "The one message worth most for the money, to random people.",
    "best_mix": "The best mix of messages for the money, to random people.",
    "one_covariate": "Best messages on each side of the best single split.",
    "personalised": "Each voter's message by predicted lift and cost.",
    "champion": "What is in use now.",
    "likely_persuadable": "The single best message to persuadable voters, areas where "
    "turnout is likely first.",
    "segment_best": "Each group the message that did most in it.",
    "group_platform": "Each group by the channel that did most in it for the money.",
}
INSTEAD = {
    "nobody": "send nothing",
    "single_best": "send the single best message to random people",
    "best_mix": "send the best mix of messages to random people",
    "champion": "go on with the present champion",
}
SMALL_CELL = SMALLEST_CELL
"""No figure speaks of fewer people than this."""
CONFIDENCE = 0.95
N_CALIBRATION_GROUPS = 10
N_MESSAGE_GROUPS = 5
MIN_TOLD = 300
"""A message sent to fewer people than this has no heterogeneity reported."""
SURE_OF_HETEROGENEITY = 0.05
ALARM = 0.001
"""A sample-ratio or attrition p-value below this is an alarm."""


def evaluate(
    test: MessageTest,
    market: Market,
    halves: Sequence[HeldOutHalf],
    *,
    segment: Objects,
    champion: Contender | None = None,
    attempt: int = 1,
    audits: Mapping[str, Any] | None = None,
    worthwhile_gain: float | None = None,
) -> Evaluation:
    """Values, differences and checks of one experiment.

    Where the group sizes are not the design's, outcomes go missing unequally, or
    chances are too small to judge by, nothing is promoted: what is in use stays, else
    nobody is sent anything.

    Args:
        test: The experiment, arms as sent, n voters.
        market: Price, permission, limits and spend.
        halves: From `judge_halves`.
        segment: Segment of every voter, shape (n,).
        champion: Policy of the present champion, and what it predicts for every voter
            and message by trees that did not see the voter; None without one.
        attempt: Number of this promotion attempt of the campaign, from 1: a gate tried
            often asks for more certainty each time.
        audits: More checks by name, each with `ok`, that may forbid a promotion.
        worthwhile_gain: Smallest gain per voter over the best baseline that is worth
            having, outcome units; None where nobody said.
    """
    if champion is not None:
        halves = [_with_champion(test, half, champion) for half in halves]
    judged, checks = (
        JudgedPolicies.of(test, market, halves),
        trust(test) | dict(audits or {}),
    )
    decided = decide(
        judged, blocked_by(checks), attempt=attempt,
        carried=carried_by_prior(judged),
        in_use=None if champion is None else champion.policy.name,
    )  # fmt: skip
    if decided.champion == NOBODY:
        decided = replace(decided, next_test=next_test(judged))
    if decided.verdict != "personalise" and not decided.blocked_by:
        decided = replace(
            decided, power=power_of_gate(judged, decided, worthwhile_gain)
        )
    return Evaluation(
        n_units=len(np.unique(test.unit)),
        n_voters=len(test.Y),
        n_observed=int(test.observed.sum()),
        n_arms=len(test.arms),
        policies={name: policy_value(judged, name) for name in judged.names},
        verdict=decided,
        details={
            "curve": _curve_rows(judged),
            "area": _areas(judged),
            "partners": _partners(judged),
            "best_untargeted": _best_untargeted(judged),
            "calibration": _calibration(test, halves),
            "heterogeneity": heterogeneity_summary(
                test, *_predicted_and_realised(halves)
            ),
            "segments": _segments(test, halves, segment),
            "checks": checks,
        },
    )


def not_learnt(
    test: MessageTest, name: VerdictName, reasons: Sequence[str], *, attempt: int
) -> Evaluation:
    """An experiment of which nothing is learnt, as was found before training.

    Args:
        test: The experiment.
        name: One of `results.NOT_LEARNT`.
        reasons: Rules that forbid to send, or what the data lack, in words.
        attempt: Number that the next promotion attempt will have: none is made.
    """
    zero = Interval(0.0, 0.0, 0.0)
    nobody = PolicyValue(
        LABELS[NOBODY],
        DESCRIPTIONS[NOBODY],
        zero,
        zero,
        0.0,
        0.0,
        limited=False,
        sends=(),
    )
    is_forbidden = name == NOTHING_MAY_BE_SENT
    verdict = Verdict(
        name, NOBODY, NOBODY, NOBODY, {}, zero, zero, attempt, spent_alpha(attempt),
        forbidden_by=tuple(reasons) if is_forbidden else (),
        lacking=() if is_forbidden else tuple(reasons),
    )  # fmt: skip
    return Evaluation(
        n_units=len(np.unique(test.unit)),
        n_voters=len(test.Y),
        n_observed=int(test.observed.sum()),
        n_arms=len(test.arms),
        policies={NOBODY: nobody},
        verdict=verdict,
        details={
            "curve": [], "area": {}, "partners": {}, "segments": [], "checks": {},
            "best_untargeted": None, "balanced_groups": [],
            "messages": [], "channels": [], "priors": [], "turnout_effect": "unknown",
            "guardrails": [],
        },
    )  # fmt: skip


def _best_untargeted(judged: JudgedPolicies) -> Json:
    """The best untargeted policy over nobody, its interval widened for the choice."""
    name = judged.best(UNTARGETED)
    gain = judged.difference(name, NOBODY)
    width = float(stats.norm.isf(GATE_ALPHA / N_CHOSEN_AMONG)) * gain.se
    corrected = Interval(gain.value, gain.value - width, gain.value + width)
    return {
        "policy": name,
        "chosen_among": N_CHOSEN_AMONG,
        "over_nobody": corrected.as_dict(),
    }


def _partners(judged: JudgedPolicies) -> Json:
    """What every partner's lifts gain over the best baseline and personalising."""
    best = judged.best(BASELINES)
    return {
        name: {
            "over_best_baseline": judged.difference(name, best).as_dict(),
            "over_personalised": judged.difference(name, "personalised").as_dict(),
        }
        for name in judged.names
        if name.startswith(PARTNER)
    }


def partner_slope(
    test: MessageTest, halves: Sequence[HeldOutHalf], delivered: Floats
) -> Interval:
    """Calibration slope of a partner's lifts: 1 comes true, 0 is noise.

    Args:
        test: The experiment.
        halves: From `judge_halves`.
        delivered: Its lift of every voter and message, shape (n, M).
    """
    scores = joined(halves, lambda half: half.message_scores)
    realised = scores[:, 1:] - scores[:, :1]
    return calibration_slope(realised, delivered, test.cluster, judging_weight(test))


def _with_champion(
    test: MessageTest, half: HeldOutHalf, champion: Contender
) -> HeldOutHalf:
    held = half.held
    of_half = champion._replace(lift=champion.lift[held], se=champion.se[held])
    nuisances = half.nuisances
    one = contended(of_half, nuisances, test.take(held), half.market, 0)
    return half.with_policy(CHAMPION, one)


def policy_value(judged: JudgedPolicies, name: str) -> PolicyValue:
    """The value of one judged policy, what it sends and what each half chose."""
    return PolicyValue(
        label=LABELS.get(name, name),
        description=DESCRIPTIONS.get(name, "Lifts as a partner delivered."),
        gain=judged.gain(name),
        gain_ipw=judged.gain_by_weighting(name),
        spend_per_voter_usd=judged.spent(name),
        contacted_share=judged.contacted(name),
        limited=judged.limited(name),
        sends=_by_arm(judged, judged.contacts(name)),
        delivered=_by_arm(judged, judged.delivered(name)),
        chosen=tuple(half.chosen[name].to_json() for half in judged.halves),
    )


def _by_arm(judged: JudgedPolicies, contacts: Floats) -> tuple[ArmContacts, ...]:
    return tuple(
        ArmContacts(arm.message_id, arm.channel, float(n))
        for arm, n in zip(judged.test.arms, contacts, strict=True)
        if n > 0
    )


def _curve_rows(judged: JudgedPolicies) -> list[Json]:
    """Gain at every spend, with intervals."""
    return [
        {
            "spend_per_voter_usd": float(spend),
            "policy": name,
            "gain": gain.value,
            "low": gain.low,
            "high": gain.high,
        }
        for name, curve in judged.curves.items()
        for spend, gain in zip(curve.spend, curve.gains, strict=True)
    ]


def _areas(judged: JudgedPolicies) -> Json:
    """Mean gain over the whole cost curve, alone and less the best mix."""
    areas = {name: curve.area for name, curve in judged.curves.items()}
    paired = judged.curves["personalised"].less(judged.curves["best_mix"])
    areas["personalised_less_best_mix"] = paired.area
    return {name: area.as_dict() for name, area in areas.items()}


def decide(
    judged: JudgedPolicies,
    blocked: Sequence[str] = (),
    *,
    attempt: int,
    carried: Collection[str] = (),
    in_use: str | None = None,
) -> Verdict:
    """The gate.

    Personalising has to beat the baselines and the champion; what campaigns do today
    and what partners deliver is shown next to them and does not raise the bar. A
    partner's lifts are promoted where they beat all of these and personalising too.
    Where nothing of that is shown, the best untargeted policy is registered if it is
    shown to beat sending nothing, or each message that it sends is, or a declared prior
    carries it; else nobody.

    Args:
        judged: Every policy on voters that no model saw.
        blocked: Checks that forbid a promotion, from `gate.blocked_by`.
        attempt: Number of this promotion attempt of the campaign, from 1.
        carried: Untargeted policies that a declared prior carries.
        in_use: Name of the policy that is in use; to stay with it is no promotion.
    """
    differences = {
        name: judged.difference(PERSONALISED, name)
        for name in judged.names
        if name != PERSONALISED
    }
    best_untargeted = judged.best(UNTARGETED)
    split_gain = judged.difference(ONE_COVARIATE, best_untargeted)
    over_nobody = judged.difference(best_untargeted, NOBODY)
    alpha = GATE_ALPHA if in_use == best_untargeted else spent_alpha(attempt)
    is_carried = best_untargeted in carried
    untargeted = NOBODY
    # half of the level is the policies', who share it, as one of them was chosen; half
    # is the messages': where all that the policy sends are shown to do something
    is_shown = is_above_zero(over_nobody, alpha=alpha / 2 / N_CHOSEN_AMONG)
    if is_carried or is_shown or _sends_what_works(judged, best_untargeted, alpha / 2):
        untargeted = best_untargeted
    verdict: VerdictName = "not_worth_personalising"
    # what is sent to random people gives away nobody
    random_people = untargeted if set(blocked) <= {"proxies"} else NOBODY
    champion = CHAMPION if CHAMPION in judged.names else random_people
    if not blocked:
        rivals = {n: differences[n] for n in _rivals(judged)}
        verdict = _verdict(rivals, split_gain, attempt)
        partner = winning_partner(
            judged.names, judged.difference, alpha=spent_alpha(attempt)
        )
        champion = partner or _champion(verdict, judged, untargeted)
        if partner or champion == CHAMPION:
            # both personalise, and beat every baseline
            verdict = "personalise"
    return Verdict(
        verdict=verdict, champion=champion, best_baseline=judged.best(BASELINES),
        rival=min(_rivals(judged), key=lambda name: differences[name].value),
        differences=differences, split_gain=split_gain, untargeted_gain=over_nobody,
        attempt=attempt, alpha=spent_alpha(attempt), blocked_by=tuple(blocked),
        carried_by_prior=is_carried,
    )  # fmt: skip


def _sends_what_works(judged: JudgedPolicies, name: str, alpha: float) -> bool:
    """Whether every message that a policy sends is shown to have an effect above zero.

    The value of a policy is read from those who got its very arms; the effect of a
    message from all who got it by any channel, so that it is known sooner. The level is
    shared by all messages.

    Args:
        judged: Every policy on voters that no model saw.
        name: The policy.
        alpha: One-sided level.
    """
    test = judged.test
    sends = np.bincount(
        test.message_of_arm[1:] - 1, judged.contacts(name), minlength=len(test.messages)
    )
    if not sends.any():
        return False
    # either half holds half of the people
    effect = np.mean([half.effects.raw for half in judged.halves], axis=0)
    error = np.mean([half.effects.raw_se for half in judged.halves], axis=0)
    works = effect > stats.norm.isf(alpha / len(sends)) * error / np.sqrt(2)
    return bool(works[sends > 0].all())


N_CHOSEN_AMONG = len(UNTARGETED) - 1
"""Untargeted policies that send anything."""


def carried_by_prior(judged: JudgedPolicies) -> frozenset[str]:
    """Untargeted policies that a declared prior, with the data, shows to do something.

    The policy's messages have effects from prior and data; where the prior speaks of
    all of them and the lower bound (95 %, two-sided) of what they do together is above
    zero, the prior carries the policy. Errors are taken to be one error: cautious.
    """
    test = judged.test
    if test.prior is None:
        return frozenset()
    value = np.mean([half.effects.shrunken for half in judged.halves], axis=0)
    error = np.mean([half.effects.shrunken_se for half in judged.halves], axis=0)
    has_prior = np.isfinite(test.prior.mean)
    carried = set()
    for name in UNTARGETED:
        per_arm = judged.contacts(name)
        of_message = np.bincount(
            test.message_of_arm[1:] - 1, per_arm, minlength=len(test.messages)
        )
        if not of_message.any() or not has_prior[of_message > 0].all():
            continue
        total = Interval.of(of_message @ value, se=float(of_message @ error))
        if is_above_zero(total, alpha=GATE_ALPHA / N_CHOSEN_AMONG):
            carried.add(name)
    return frozenset(carried)


def next_test(judged: JudgedPolicies) -> NextTest | None:
    """How large a test would show what the best message does; None for no prospect.

    The lift to be seen is the message's shrunken effect, or where that is not above
    zero the upper end of its interval: a message that cannot do anything is not worth
    another test.
    """
    test = judged.test
    effects = [half.effects for half in judged.halves]
    value = np.mean([e.shrunken for e in effects], axis=0)
    # either half holds half of the people
    error = np.mean([e.shrunken_se for e in effects], axis=0) / np.sqrt(2)
    best = int(np.argmax(value))
    lift = float(value[best])
    if lift <= 0:
        lift = float(value[best] + Z95 * error[best])
    Y = test.Y[test.observed]
    if lift <= 0 or len(Y) == 0 or Y.std() == 0:
        return None
    size = np.bincount(test.cluster)
    noise = Noise(
        float(Y.std()), household=float((size**2).sum() / size.sum()), icc=0.5,
        missing=float(1 - test.observed.mean()),
    )  # fmt: skip
    n_voters = voters_needed(lift, noise, 0.5, ClaimCertainty(n_claims=N_CHOSEN_AMONG))
    return NextTest(test.messages[best], lift, n_voters)


CURVE_Z = (0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)
"""Gains of the power curve, in standard errors of the difference."""
LARGEST_TEST = 1_000
"""Times as many voters as were tested: nobody draws a larger test."""


def power_of_gate(
    judged: JudgedPolicies, decided: Verdict, worthwhile_gain: float | None
) -> GatePower | None:
    """What gains the gate could have seen; None where no difference has an error.

    A true gain over the hardest to beat is one over every other policy that has to be
    beaten, by as much more as personalising is further ahead of it. The least of
    these chances is reported: all rivals have to be beaten, and the differences share
    their noise.

    Args:
        judged: Every policy on voters that no model saw.
        decided: By the gate.
        worthwhile_gain: See `evaluate`.
    """
    rivals = {name: decided.differences[name] for name in _rivals(judged)}
    least = rivals[decided.rival]
    uncertain = {name: d for name, d in rivals.items() if d.se > 0}
    if not uncertain or least.se <= 0:
        return None
    next_alpha = spent_alpha(decided.attempt + 1)
    n_tested = len(judged.test.Y)

    def at(gain: float) -> PowerAtGain:
        gains = {
            name: (gain + d.value - least.value, d.se) for name, d in uncertain.items()
        }
        power = min(gate_power(g, se, decided.alpha) for g, se in gains.values())
        times = [
            times_larger(g, se, next_alpha) if g > 0 else np.inf
            for g, se in gains.values()
        ]
        larger = max(times)
        n_voters = math.ceil(larger * n_tested) if larger <= LARGEST_TEST else None
        return PowerAtGain(gain, power, n_voters)

    claimed, _ = towards_nothing(
        least.value, least.se, USUAL_EFFECT * float(np.nanstd(judged.test.Y))
    )
    return GatePower(
        rival=min(
            uncertain, key=lambda name: uncertain[name].value / uncertain[name].se
        ),
        standard_error=least.se,
        n_tested=n_tested,
        next_alpha=next_alpha,
        at_estimate=at(claimed) if claimed > 0 else None,
        at_worthwhile=None if worthwhile_gain is None else at(worthwhile_gain),
        curve=tuple(at(z * least.se) for z in CURVE_Z),
    )


def _rivals(judged: JudgedPolicies) -> list[str]:
    return [name for name in (*BASELINES, "champion") if name in judged.names]


def _verdict(
    differences: Mapping[str, Interval], split_gain: Interval, attempt: int = 1
) -> VerdictName:
    """The gate: above every baseline, and the champion, as surely as the attempt asks.

    Which baseline is best is uncertain too; to beat all of them is to beat the best,
    and needs no allowance for having chosen it (intersection-union test).
    """
    alpha = spent_alpha(attempt)
    if all(is_above_zero(d, alpha=alpha) for d in differences.values()):
        return "personalise"
    if is_above_zero(split_gain, alpha=spent_alpha(attempt, alpha=SPLIT_ALPHA)):
        return "one_split_suffices"
    return "not_worth_personalising"


def _champion(verdict: VerdictName, judged: JudgedPolicies, untargeted: str) -> str:
    present = "champion" in judged.names
    if present and verdict != "personalise":
        rivals = [judged.difference("champion", name) for name in BASELINES]
        # to stay is no promotion: it spends nothing, however often it is asked
        if all(is_above_zero(r, alpha=GATE_ALPHA) for r in rivals):
            return "champion"
    if verdict == "personalise":
        return "personalised"
    if verdict == "one_split_suffices":
        return "one_covariate"
    return untargeted


def message_rows(
    test: MessageTest,
    effects: AverageEffects,
    issue_of: Mapping[str, str],
    discloses: Mapping[str, str],
) -> list[Json]:
    """Average effect of every message, raw and partially pooled."""
    sent = np.bincount(test.by_message().arm, minlength=1 + len(test.messages))[1:]
    raw, shrunken = effects.intervals(shrunken=False), effects.intervals(shrunken=True)
    return [
        {
            "message_id": message,
            "issue": issue_of[message],
            "effect": raw[m].as_dict(),
            "shrunken": shrunken[m].as_dict(),
            "n_sent": int(sent[m]),
            "discloses": discloses[message],
            "planned": True,
        }
        for m, message in enumerate(test.messages)
    ]


def prior_rows(test: MessageTest, effects: AverageEffects) -> list[Json]:
    """Priors of other studies, the estimates of the data, and their conflict.

    A `conflict_z` beyond 3 either way says that one of both is wrong.
    """
    if test.prior is None:
        return []
    mean, variance = test.prior
    rows = []
    for m in np.flatnonzero(np.isfinite(mean)):
        spread = float(np.sqrt(effects.raw_se[m] ** 2 + variance[m]))
        rows.append(
            {
                "message_id": test.messages[m],
                "prior": Interval.of(mean[m], se=float(variance[m] ** 0.5)).as_dict(),
                "effect": Interval.of(effects.raw[m], se=effects.raw_se[m]).as_dict(),
                "conflict_z": float((effects.raw[m] - mean[m]) / spread),
            }
        )
    return rows


def channel_rows(
    test: MessageTest, effects: AverageEffects, cost: Floats
) -> list[Json]:
    """Multiplier and cost of every channel."""
    return [
        {
            "channel": channel,
            "multiplier": Interval.of(
                effects.channel[c], se=effects.channel_se[c]
            ).as_dict(),
            "cost_usd_mean": float(
                np.mean([cost[k] for k, a in enumerate(test.arms) if a[1] == channel])
            ),
        }
        for c, channel in enumerate(test.channels)
    ]


def _calibration(test: MessageTest, halves: Sequence[HeldOutHalf]) -> Json:
    """Predicted against realised lift: slope within messages, and all pairs pooled.

    `slope` is that of differences between voters sent the same message; `pooled_slope`
    that of all pairs of voter and message, of which the groups are made.
    """
    lift, realised = _predicted_and_realised(halves)
    survey = judging_weight(test)
    predictor = best_linear_predictor(realised, lift, test.cluster, survey)
    groups = lift_groups(
        realised, lift, test.cluster,
        n_groups=N_CALIBRATION_GROUPS, at_least=SMALLEST_CELL, weight=survey,
    )  # fmt: skip
    group_rows = [{"message_id": "all", **group.as_dict()} for group in groups]
    pooled = pooled_slope(realised, lift, test.cluster, survey)
    return {
        "slope": predictor.slope.as_dict(),
        "pooled_slope": pooled.as_dict(),
        "groups": group_rows,
    }


def _predicted_and_realised(halves: Sequence[HeldOutHalf]) -> tuple[Floats, Floats]:
    """Lift of every voter and message as predicted and as scored, (n, M) each."""
    lift = joined(halves, lambda half: half.lift)
    scores = joined(halves, lambda half: half.message_scores)
    return lift, scores[:, 1:] - scores[:, :1]


def heterogeneity_summary(test: MessageTest, lift: Floats, realised: Floats) -> Json:
    """Best linear predictor, RATE and calibration, pooled and message by message.

    A message sent to fewer than `MIN_TOLD` people is not reported by itself: so few
    give no normal errors. Which messages differ is decided by Holm over all reported.

    Args:
        test: The experiment, n voters, M messages.
        lift: Predicted by a model that did not see the voter, shape (n, M).
        realised: Γ_m − Γ_0, shape (n, M).
    """
    survey = judging_weight(test)
    pooled = best_linear_predictor(realised, lift, test.cluster, survey)
    sent = np.bincount(test.by_message().arm, minlength=1 + len(test.messages))[1:]
    rows = [
        _message_heterogeneity(
            message, realised[:, m], lift[:, m], test.cluster, survey
        )
        for m, message in enumerate(test.messages)
        if sent[m] >= MIN_TOLD
    ]
    p_values = np.array([row["p_value"] for row in rows])
    rejected = holm(p_values, alpha=SURE_OF_HETEROGENEITY)
    for row, surely in zip(rows, rejected, strict=True):
        row["found"] = bool(surely)
    return {"pooled": pooled.as_dict(), "messages": rows}


def _message_heterogeneity(
    message: str,
    realised: Floats,
    lift: Floats,
    cluster: Ints,
    survey: Floats | None,
) -> Json:
    # ranks are of the people who answered, whomever they stand for
    rate = rate_of(realised, lift, cluster)
    groups = lift_groups(
        realised, lift, cluster,
        n_groups=N_MESSAGE_GROUPS, at_least=SMALLEST_CELL, weight=survey,
    )  # fmt: skip
    return {
        "message_id": message,
        **best_linear_predictor(realised, lift, cluster, survey).as_dict(),
        "autoc": rate.autoc.as_dict(),
        "qini": rate.qini.as_dict(),
        "rate_p_value": rate.p_value,
        "toc": [
            {"share": share, **toc.as_dict()}
            for share, toc in zip(TOC_SHARES, rate.toc, strict=True)
        ],
        "groups": [group.as_dict() for group in groups],
    }


def _segments(
    test: MessageTest, halves: Sequence[HeldOutHalf], segment: Objects
) -> list[Json]:
    """Realised lift of every message in every segment, small cells left out."""
    _, realised = _predicted_and_realised(halves)
    rows = []
    for name, where in pd.Series(segment).groupby(segment).groups.items():
        at = np.asarray(where)
        if test.weight is not None:
            at = at[test.weight[at] > 0]
        household = np.unique(test.cluster[at], return_inverse=True)[1]
        if len(at) < SMALLEST_CELL or household.max(initial=0) < 1:
            continue
        survey = judging_weight(test.take(at))
        for m, message in enumerate(test.messages):
            effect = weighted_mean(realised[at, m], household, survey)
            rows.append(
                {
                    "message_id": message,
                    "segment": str(name),
                    "n": len(at),
                    "effect": effect.as_dict(),
                }
            )
    return rows


def trust(test: MessageTest) -> Json:
    """Whether a test can be believed: group sizes, missing outcomes, rare arms."""
    ratio = sample_ratio_p_value(test.arm, test.propensities, test.drawn)
    blocks = block_p_values(test.arm, test.propensities, test.drawn, test.block)
    n_broken = int(holm(blocks, alpha=ALARM).sum())
    attrition = attrition_p_value(
        test.observed, test.arm, test.propensities, test.cluster
    )
    offered = test.propensities[test.propensities > 0]
    return {
        "sample_ratio": {
            "p_value": ratio,
            "ok": ratio >= ALARM and not n_broken,
            "n_blocks": len(blocks),
            "n_blocks_broken": n_broken,
        },
        "attrition": {
            "p_value": attrition,
            "ok": attrition >= ALARM,
            "missing_share": float(1 - test.observed.mean()),
        },
        "overlap_min_propensity": float(offered.min()),
        "overlap": overlap(test).to_json(),
    }


def permuted_gain(
    test: MessageTest,
    market: Market,
    *,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    params: Mapping[str, Any],
    seed: int,
    texts: MessageFeatures | None = None,
) -> Interval:
    """The gain from personalising with the treatment labels shuffled: expected 0.

    Args:
        test: The experiment, arms as sent.
        market: Price, permission and spend.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        params: Settings of the learner.
        seed: Shuffling, halves and learner.
        texts: What the messages say, for learners that read it.
    """
    rng = np.random.default_rng(seed)
    shuffled = replace(
        test, arm=permute_within_blocks(test.arm, test.block, test.drawn, rng)
    )
    halves = judge_halves(
        shuffled,
        market,
        categorical=categorical,
        issue_of=issue_of,
        settings=lambda *_: params,
        seed=seed,
        texts=texts,
    )
    judged = JudgedPolicies.of(shuffled, market, halves)
    return judged.difference("personalised", judged.best(BASELINES))


def answer(evaluated: Mapping[str, Any], *, unit_per_point: float, label: str) -> str:
    """Answer of an experiment in one sentence, with its interval.

    Args:
        evaluated: From `evaluate`.
        unit_per_point: Outcome units in one point.
        label: What the outcome is called.
    """
    gain = _in_points(evaluated["gain_from_personalising"], unit_per_point)
    gain_text = effect_text(gain["value"], gain["low"], gain["high"])
    for reasons, finding in (
        (evaluated["gate"].get("forbidden_by"), "Nothing may be sent, because "),
        (evaluated["gate"].get("lacking"), "Nothing can be said yet: "),
    ):
        if reasons:
            return (
                f"{finding}{'; '.join(reasons)}. Nothing was learnt, and no attempt at "
                "a promotion was spent."
            )
    rival = f"the hardest to beat ({LABELS[evaluated['rival']].lower()})"
    blocked = evaluated["gate"]["blocked_by"]
    if blocked:
        why = " and ".join(BLOCKING[name] for name in blocked)
        return (
            f"Nothing is promoted: {why}, so what the test shows cannot be trusted; "
            f"{INSTEAD[evaluated['champion']]} until it is mended."
        )
    if evaluated["champion"] == "champion":
        return (
            "Keep personalising with the present champion: what was learnt now "
            f"{gain_verb(evaluated)} {gain_text} of '{label}' per voter "
            f"{_against(gain)} {rival}, and is not shown to beat the champion."
        )
    if evaluated["champion"].startswith(PARTNER):
        over = _in_points(
            evaluated["partners"][evaluated["champion"]]["over_best_baseline"],
            unit_per_point,
        )
        return (
            f"Use the lifts of {evaluated['champion'].removeprefix(PARTNER)}: at equal "
            "spend they add "
            f"{effect_text(over['value'], over['low'], over['high'])} of "
            f"'{label}' per voter over the best alternative "
            f"({LABELS[evaluated['best_baseline']].lower()}), and beat our own."
        )
    if evaluated["verdict"] == "personalise":
        return (
            f"Personalise: at equal spend it adds {gain_text} of '{label}' per voter "
            f"over {rival}."
        )
    if evaluated["verdict"] == "one_split_suffices":
        split = evaluated.get("split")
        return (
            f"One split suffices{f' ({split})' if split else ''}: treating two groups "
            "differently beats treating all alike, and personalising further "
            f"{gain_verb(evaluated)} {gain_text} {_against(gain)} {rival}"
            f"{_what_it_may_be(evaluated, gain)}."
        )
    unsure = _too_unsure(evaluated) if gain["low"] > 0 else ""
    return (
        f"{_without_gain(evaluated, gain)} {gain_text} of '{label}' per voter "
        f"{_against(gain)} {rival}{unsure}; "
        f"{INSTEAD[evaluated['champion']]}{_next_test_in_words(evaluated['gate'])}"
        f"{_power_in_words(evaluated['gate'], unit_per_point)}."
    )


def _in_points(
    interval: Mapping[str, float], unit_per_point: float
) -> dict[str, float]:
    return {end: interval[end] / unit_per_point for end in ("value", "low", "high")}


def is_shown_to_lose(evaluated: Mapping[str, Any]) -> bool:
    """Whether personalising is shown to do worse than the hardest to beat.

    As the rival is the closest of several, by an interval that holds for all of them
    together (Bonferroni).

    Args:
        evaluated: From `evaluate`.
    """
    gain = evaluated["gain_from_personalising"]
    n_rivals = sum(name in evaluated["differences"] for name in (*BASELINES, CHAMPION))
    z = float(stats.norm.isf((1 - CONFIDENCE) / 2 / max(n_rivals, 1)))
    half_width = (gain["high"] - gain["low"]) / 2
    return bool(gain["value"] + z / Z95 * half_width < 0)


def gain_verb(evaluated: Mapping[str, Any]) -> str:
    """What personalising does before a signed figure: adds, or gives what is a loss.

    Args:
        evaluated: From `evaluate`.
    """
    return "adds" if evaluated["gain_from_personalising"]["value"] >= 0 else "gives"


def _against(gain: Mapping[str, float]) -> str:
    return "over" if gain["value"] >= 0 else "against"


def _what_it_may_be(evaluated: Mapping[str, Any], gain: Mapping[str, float]) -> str:
    """What else an effect may be that is not shown to be what it is estimated to be."""
    if gain["low"] > 0:
        return _too_unsure(evaluated)
    if is_shown_to_lose(evaluated):
        return ", which is a loss"
    return ", which may be nothing" if gain["value"] >= 0 else ", which may be a loss"


def _too_unsure(evaluated: Mapping[str, Any]) -> str:
    attempt = evaluated["gate"]["attempt"]
    return f" (too unsure to be promoted at attempt {attempt} of the campaign)"


def _without_gain(evaluated: Mapping[str, Any], gain: Mapping[str, float]) -> str:
    """How a sentence begins where personalising is not shown to pay."""
    if is_shown_to_lose(evaluated):
        return "Personalising loses:"
    if gain["value"] < 0:
        return "Personalising is not shown to pay, and may lose: the test gives"
    return "Personalising is not shown to pay: it adds"


def _next_test_in_words(gate: Mapping[str, Any]) -> str:
    planned = gate.get("next_test")
    if not planned:
        return ""
    return (
        f", for no message is shown to beat sending nothing: a test of "
        f"{planned['n_voters']:,} voters would show whether {planned['message_id']} "
        "does"
    )


def _power_in_words(gate: Mapping[str, Any], unit_per_point: float) -> str:
    """How many more voters would tell; empty where that is not known."""
    power = gate.get("power")
    if not power or gate.get("next_test"):
        return ""
    chance = power["at_worthwhile"] or power["at_estimate"]
    if chance is None:
        return ""
    gain = chance["gain"] / unit_per_point
    if power["at_worthwhile"]:
        gain_text = f"a gain worth having ({effect_text(gain, math.nan, math.nan)})"
    else:
        text = effect_text(gain, math.nan, math.nan)
        gain_text = f"a true gain of {text}, the estimate less its luck,"
    if chance["n_voters"] is None:
        return f"; {gain_text} is too small for any test that can be drawn"
    n_lacking = chance["n_voters"] - power["n_tested"]
    if n_lacking <= 0:
        return f"; {gain_text} would probably have been seen"
    return (
        f"; {gain_text} would have been shown with a chance of "
        f"{100 * chance['power']:.0f} %, and with {n_lacking:,} more voters of 80 %"
    )
