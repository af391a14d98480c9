"""The verdict: whether personalising beats cheaper policies on held-out voters.

It turns the held-out halves of a message test into policy values, paired differences,
the cost curve, calibration, segments and checks, and one sentence with the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints, Objects
from hustings.features.message import MessageFeatures
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import MessageTest
from hustings.training.estimators.metrics import (
    Interval,
    attrition_p_value,
    calibration_slope,
    permute_within_blocks,
    sample_ratio_p_value,
)
from hustings.training.estimators.sample_ratio import block_p_values, holm
from hustings.training.learners.average_effects import (
    AverageEffects,
    lay_ground,
    overlap,
)
from hustings.training.learners.boosting import binned
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
    Half,
    Market,
    deciding_rows,
    judge_halves,
    spend_along,
)
from hustings.training.policy_value.heterogeneity import (
    best_linear_predictor,
    lift_groups,
    weighted_mean,
)
from hustings.training.policy_value.judged_policies import Judged, joined
from hustings.training.policy_value.partner import PARTNER, winning_partner
from hustings.training.policy_value.rate import TOC_SHARES, rate_of

Json = dict[str, Any]
Verdict = Literal["personalise", "one_split_suffices", "not_worth_personalising"]

LABELS = {
    "nobody": "Nobody",
    "single_best": "Single best message, random people",
    "best_mix": "Best mix of messages, random people",
    "one_covariate": "One split",
    "personalised": "Personalised",
    "champion": "Present champion",
    "likely_persuadable": "Persuadable voters in likely areas",
    "segment_best": "Each group its best message",
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
}
INSTEAD = {
    "nobody": "send nothing",
    "single_best": "send the single best message to random people",
    "best_mix": "send the best mix of messages to random people",
    "champion": "go on with the present champion",
}
SMALL_CELL = SMALLEST_CELL
"""No figure speaks of fewer people than this."""
N_CALIBRATION_GROUPS = 10
N_MESSAGE_GROUPS = 5
MIN_TOLD = 300
"""A message sent to fewer people than this has no heterogeneity told by itself."""
SURE_OF_HETEROGENEITY = 0.05
ALARM = 0.001
"""A sample-ratio or attrition p-value below this is an alarm."""


def evaluate(
    test: MessageTest,
    market: Market,
    halves: Sequence[Half],
    *,
    segment: Objects,
    champion_values: Floats | None = None,
    attempt: int = 1,
    audits: Mapping[str, Any] | None = None,
) -> Json:
    """Values, differences and checks of one experiment, as plain JSON values.

    Where the group sizes are not the design's, or outcomes go missing unalike, nothing
    is promoted: what is in use stays, else the best untargeted policy.

    Args:
        test: The experiment, arms as sent, n voters.
        market: Price, permission and spend.
        halves: From `judge_halves`.
        segment: Segment of every voter, shape (n,).
        champion_values: What the present champion predicts for every voter and arm by
            trees that did not see the voter, shape (n, A); None without one.
        attempt: The how-manieth promotion attempt of the campaign this is, from 1: a
            gate tried often asks for more certainty each time.
        audits: More checks by name, each with `ok`, that may forbid a promotion.
    """
    if champion_values is not None:
        halves = [_with_champion(test, half, champion_values) for half in halves]
    judged, checks = Judged.of(test, market, halves), trust(test) | dict(audits or {})
    decided = decide(judged, blocked_by(checks), attempt=attempt)
    differences = decided.differences
    return {
        "n_units": len(np.unique(test.unit)),
        "n_voters": len(test.Y),
        "n_observed": int(test.observed.sum()),
        "n_arms": len(test.arms),
        "policies": {name: _policy_row(judged, name) for name in judged.names},
        "differences": {name: d.as_dict() for name, d in differences.items()},
        "best_baseline": decided.best_baseline,
        "gain_from_personalising": differences[decided.best_baseline].as_dict(),
        "gain_from_one_split": decided.split_gain.as_dict(),
        "verdict": decided.verdict,
        "champion": decided.champion,
        "gate": {
            "attempt": attempt,
            "alpha": spent_alpha(attempt),
            "blocked_by": decided.blocked_by,
        },
        "curve": _curve_rows(judged),
        "area": _areas(judged),
        "partners": _partners(judged),
        "calibration": _calibration(test, halves),
        "heterogeneity": heterogeneity_told(test, *_predicted_and_realised(halves)),
        "segments": _segments(test, halves, segment),
        "checks": checks,
    }


def _partners(judged: Judged) -> Json:
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
    test: MessageTest, halves: Sequence[Half], delivered: Floats
) -> Interval:
    """Calibration slope of a partner's lifts: 1 comes true, 0 is noise.

    Args:
        test: The experiment.
        halves: From `judge_halves`.
        delivered: Its lift of every voter and message, shape (n, M).
    """
    scores = joined(halves, lambda half: half.message_scores)
    realised = scores[:, 1:] - scores[:, :1]
    return calibration_slope(realised, delivered, test.cluster, test.stands_for)


def _with_champion(test: MessageTest, half: Half, values: Floats) -> Half:
    row = deciding_rows(test.take(half.held))
    rng = np.random.default_rng(0)
    policy = spend_along(values[half.held], half.market, row, rng)
    return replace(half, policies={**half.policies, "champion": policy})


def _policy_row(judged: Judged, name: str) -> Json:
    return {
        "label": LABELS.get(name, name),
        "description": DESCRIPTIONS.get(name, "Lifts as a partner delivered."),
        "gain": judged.gain(name).as_dict(),
        "gain_ipw": judged.gain_by_weighting(name).as_dict(),
        "spend_per_voter_usd": judged.spent(name),
        "contacted_share": judged.contacted(name),
    }


def _curve_rows(judged: Judged) -> list[Json]:
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


def _areas(judged: Judged) -> Json:
    """Mean gain over the whole cost curve, alone and less the best mix."""
    areas = {name: curve.area for name, curve in judged.curves.items()}
    paired = judged.curves["personalised"].less(judged.curves["best_mix"])
    areas["personalised_less_best_mix"] = paired.area
    return {name: area.as_dict() for name, area in areas.items()}


class Decision(NamedTuple):
    """What the gate decides, and on what.

    Attributes:
        verdict: Whether personalising, or one split, is shown to pay.
        champion: The policy to use.
        differences: Personalised less every other policy, at the campaign's spend;
            what is no baseline, nor the champion, is shown and decides nothing.
        split_gain: The best split less the best untargeted policy.
        best_baseline: By its value within the training halves.
        blocked_by: Checks that forbid a promotion.
    """

    verdict: Verdict
    champion: str
    differences: Mapping[str, Interval]
    split_gain: Interval
    best_baseline: str
    blocked_by: Sequence[str]


def decide(judged: Judged, blocked: Sequence[str] = (), *, attempt: int) -> Decision:
    """The gate.

    Personalising has to beat the baselines and the champion; what campaigns do today
    and what partners deliver is shown beside them and does not raise the bar. A
    partner's lifts are promoted where they beat all of these and personalising too.

    Args:
        judged: Every policy on voters that no model saw.
        blocked: Checks that forbid a promotion, from `gate.blocked_by`.
        attempt: The how-manieth promotion attempt of the campaign this is, from 1.
    """
    differences = {
        name: judged.difference("personalised", name)
        for name in judged.names
        if name != "personalised"
    }
    best_untargeted = judged.best(UNTARGETED)
    split_gain = judged.difference("one_covariate", best_untargeted)
    verdict: Verdict = "not_worth_personalising"
    champion = "champion" if "champion" in judged.names else best_untargeted
    if not blocked:
        rivals = {n: differences[n] for n in _rivals(judged)}
        verdict = _verdict(rivals, split_gain, attempt)
        partner = winning_partner(
            judged.names, judged.difference, alpha=spent_alpha(attempt)
        )
        champion = partner or _champion(verdict, judged)
        if partner or champion == "champion":
            # both personalise, and beat every baseline
            verdict = "personalise"
    best = judged.best(BASELINES)
    return Decision(verdict, champion, differences, split_gain, best, blocked)


def _rivals(judged: Judged) -> list[str]:
    return [name for name in (*BASELINES, "champion") if name in judged.names]


def _verdict(
    differences: Mapping[str, Interval], split_gain: Interval, attempt: int = 1
) -> Verdict:
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


def _champion(verdict: Verdict, judged: Judged) -> str:
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
    return judged.best(UNTARGETED)


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
        }
        for m, message in enumerate(test.messages)
    ]


def prior_rows(test: MessageTest, effects: AverageEffects) -> list[Json]:
    """What was known from elsewhere beside what the data say, and their conflict.

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
    """What every channel does to an effect, and what it costs."""
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


def _calibration(test: MessageTest, halves: Sequence[Half]) -> Json:
    """Predicted against realised lift: slope within messages, and groups of all."""
    lift, realised = _predicted_and_realised(halves)
    survey = test.stands_for
    predictor = best_linear_predictor(realised, lift, test.cluster, survey)
    groups = lift_groups(
        realised, lift, test.cluster,
        n_groups=N_CALIBRATION_GROUPS, at_least=SMALLEST_CELL, weight=survey,
    )  # fmt: skip
    group_rows = [{"message_id": "all", **group.as_dict()} for group in groups]
    return {"slope": predictor.slope.as_dict(), "groups": group_rows}


def _predicted_and_realised(halves: Sequence[Half]) -> tuple[Floats, Floats]:
    """Lift of every voter and message as predicted and as scored, (n, M) each."""
    lift = joined(halves, lambda half: half.lift)
    scores = joined(halves, lambda half: half.message_scores)
    return lift, scores[:, 1:] - scores[:, :1]


def heterogeneity_told(test: MessageTest, lift: Floats, realised: Floats) -> Json:
    """Best linear predictor, RATE and calibration, pooled and message by message.

    A message sent to fewer than `MIN_TOLD` people is not told by itself: so few give no
    normal errors. Which messages differ is decided by Holm over all told.

    Args:
        test: The experiment, n voters, M messages.
        lift: Predicted by a model that did not see the voter, shape (n, M).
        realised: Γ_m − Γ_0, shape (n, M).
    """
    survey = test.stands_for
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
    test: MessageTest, halves: Sequence[Half], segment: Objects
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
        survey = test.take(at).stands_for
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
    """The gain from personalising with the treatment labels shuffled: must be nil.

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
    judged = Judged.of(shuffled, market, halves)
    return judged.difference("personalised", judged.best(BASELINES))


def turnout_effects(
    test: MessageTest,
    turnout: Floats,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    *,
    seed: int,
) -> dict[str, Interval]:
    """Effect of every message on turnout, where it was observed.

    Args:
        test: The experiment, arms as sent, n voters.
        turnout: 1 voted, 0 did not, NaN unknown, shape (n,).
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        seed: Folds and trees.
    """
    # what is known from elsewhere is of the outcome, not of turnout
    voted = replace(test, Y=turnout, prior=None)
    ground = lay_ground(voted, binned(test.X, categorical), issue_of, seed=seed)
    intervals = ground.effects.intervals(shrunken=False)
    return dict(zip(test.messages, intervals, strict=True))


def answer(evaluated: Mapping[str, Any], *, unit_per_point: float, label: str) -> str:
    """What an experiment says, in one sentence with its interval.

    Args:
        evaluated: From `evaluate`.
        unit_per_point: Outcome units in one point.
        label: What the outcome is called.
    """
    gain = {
        k: v / unit_per_point for k, v in evaluated["gain_from_personalising"].items()
    }
    gain_text = (
        f"{gain['value']:+.2f} points ({gain['low']:+.2f} to {gain['high']:+.2f})"
    )
    rival = LABELS[evaluated["best_baseline"]].lower()
    blocked = evaluated["gate"]["blocked_by"]
    if blocked:
        why = " and ".join(BLOCKING[name] for name in blocked)
        return (
            f"Nothing is promoted: {why}, so what the test shows cannot be trusted; "
            f"{INSTEAD[evaluated['champion']]} until it is mended."
        )
    if evaluated["champion"] == "champion":
        return (
            "Keep personalising with the present champion: what was learnt now adds "
            f"{gain_text} of '{label}' per voter over the best alternative ({rival}), "
            "and is not shown to beat the champion."
        )
    if evaluated["champion"].startswith(PARTNER):
        over = evaluated["partners"][evaluated["champion"]]["over_best_baseline"]
        adds = {k: v / unit_per_point for k, v in over.items()}
        return (
            f"Use the lifts of {evaluated['champion'].removeprefix(PARTNER)}: at equal "
            f"spend they add {adds['value']:+.2f} points ({adds['low']:+.2f} to "
            f"{adds['high']:+.2f}) of '{label}' per voter over the best alternative "
            f"({rival}), and beat our own."
        )
    if evaluated["verdict"] == "personalise":
        return (
            f"Personalise: at equal spend it adds {gain_text} of '{label}' per voter "
            f"over the best alternative ({rival})."
        )
    if evaluated["verdict"] == "one_split_suffices":
        return (
            "One split suffices: treating two groups differently beats treating all "
            f"alike, and personalising further adds {gain_text}, which may be nothing."
        )
    unsure = ""
    if gain["low"] > 0:
        attempt = evaluated["gate"]["attempt"]
        unsure = f" (too unsure to be promoted at attempt {attempt} of the campaign)"
    return (
        f"Personalising is not shown to pay: it adds {gain_text} of '{label}' per "
        f"voter over the best alternative ({rival}){unsure}; "
        f"{INSTEAD[evaluated['champion']]}."
    )
