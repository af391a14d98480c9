"""The verdict: does personalising beat what is cheaper, on voters no model saw?

Turns the judged halves of a message test into policy values, paired differences, the
cost curve, calibration, segments and checks; says in one sentence what they mean.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from features.training_set import MessageTest
from training.boosting import binned
from training.effects import AverageEffects, lay_ground
from training.judge import (
    BASELINES,
    UNTARGETED,
    Half,
    Market,
    deciding_rows,
    judge_halves,
    spend_along,
)
from training.metrics import (
    Interval,
    area_weights,
    attrition_p_value,
    calibration_slope,
    clustered_mean,
    contacted_share,
    permute_within_blocks,
    sample_ratio_p_value,
)
from training.partner import PARTNER, winning_partner

Floats = npt.NDArray[np.float64]
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
SMALL_CELL = 20
"""No figure speaks of fewer people than this."""
N_CALIBRATION_GROUPS = 10
N_CURVE = 25
SURE_OF_A_SPLIT = 3.09
ALARM = 0.001
"""A sample-ratio or attrition p-value below this is an alarm."""


def evaluate(
    test: MessageTest,
    market: Market,
    halves: Sequence[Half],
    *,
    segment: npt.NDArray[np.object_],
    champion_values: Floats | None = None,
) -> Json:
    """Values, differences and checks of one experiment, as plain JSON values.

    Args:
        test: The experiment, arms as sent, n voters.
        market: Price, permission and spend.
        halves: From `judge_halves`.
        segment: Segment of every voter, shape (n,).
        champion_values: What the present champion predicts for every voter and arm by
            trees that did not see the voter, shape (n, A); None without one.
    """
    if champion_values is not None:
        halves = [_with_champion(test, half, champion_values) for half in halves]
    judged = _Judged(test, market, halves)
    differences = {
        name: judged.difference("personalised", name)
        for name in judged.names
        if name != "personalised"
    }
    best_baseline, best_untargeted = judged.best(BASELINES), judged.best(UNTARGETED)
    split_gain = judged.difference("one_covariate", best_untargeted)
    # comparators are shown, and decide nothing
    gate = {n: d for n, d in differences.items() if n in (*BASELINES, "champion")}
    verdict = _verdict(gate, split_gain)
    partner = winning_partner(judged.names, judged.difference)
    champion = partner or _champion(verdict, judged)
    if partner or champion == "champion":
        # both personalise, and beat every baseline
        verdict = "personalise"
    return {
        "n_units": len(np.unique(test.unit)),
        "n_voters": len(test.Y),
        "n_observed": int(test.observed.sum()),
        "n_arms": len(test.arms),
        "policies": {name: judged.row(name) for name in judged.names},
        "differences": {name: d.as_dict() for name, d in differences.items()},
        "best_baseline": best_baseline,
        "gain_from_personalising": differences[best_baseline].as_dict(),
        "gain_from_one_split": split_gain.as_dict(),
        "verdict": verdict,
        "champion": champion,
        "curve": judged.curve(),
        "area": judged.areas(),
        "partners": _partners(judged),
        "calibration": _calibration(test, halves),
        "segments": _segments(test, halves, segment),
        "checks": _checks(test),
    }


def _partners(judged: "_Judged") -> Json:
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
    scores = _joined(halves, lambda half: half.message_scores)
    return calibration_slope(scores[:, 1:] - scores[:, :1], delivered, test.cluster)


def _with_champion(test: MessageTest, half: Half, values: Floats) -> Half:
    row = deciding_rows(test.take(half.held))
    rng = np.random.default_rng(0)
    policy = spend_along(values[half.held], half.market, row, rng)
    return replace(half, policies={**half.policies, "champion": policy})


class _Judged(NamedTuple):
    """Both halves as one test: every voter judged once."""

    test: MessageTest
    market: Market
    halves: Sequence[Half]

    @property
    def names(self) -> list[str]:
        return list(self.halves[0].policies)

    def realised(self, policy: str, spend: float) -> Floats:
        """Lift realised by every voter, shape (n,)."""
        return _joined(self.halves, lambda half: half.realised(policy, spend))

    def difference(self, one: str, other: str) -> Interval:
        """Paired difference of two policies at the campaign's spend."""
        spend = self.market.spend
        paired = self.realised(one, spend) - self.realised(other, spend)
        return clustered_mean(paired, self.test.cluster)

    def row(self, name: str) -> Json:
        gain = clustered_mean(self.realised(name, self.market.spend), self.test.cluster)
        share = [
            contacted_share(
                path, row, half.market.allowed, self.market.spend * len(row)
            )
            for half in self.halves
            for row, path in [half.policies[name]]
        ]
        return {
            "label": LABELS.get(name, name),
            "description": DESCRIPTIONS.get(name, "Lifts as a partner delivered."),
            "gain": gain.as_dict(),
            "spend_per_voter_usd": self._spent(name),
            "contacted_share": float(np.mean(share)),
        }

    def _spent(self, name: str) -> float:
        """What a policy spends: less than the spend where nothing more is worth it."""
        spent = []
        for half in self.halves:
            row, path = half.policies[name]
            most = float(path.spend[-1]) if len(path.spend) else 0.0
            spent.append(min(most / len(row), self.market.spend))
        return float(np.mean(spent))

    def best(self, names: Sequence[str]) -> str:
        """The policy of the highest value within the training halves."""

        def value(name: str) -> float:
            return sum(half.training_values[name] for half in self.halves)

        return max(names, key=value)

    def spends(self) -> Floats:
        """Spends per voter from 0 to the dearest arm, the campaign's own among them."""
        grid = np.linspace(0.0, float(self.market.cost.max()), N_CURVE)
        return np.union1d(grid, [min(self.market.spend, grid[-1])])

    def curve(self) -> list[Json]:
        """Gain at every spend, with intervals."""
        rows = []
        for name in self.names:
            for spend in self.spends():
                gain = clustered_mean(self.realised(name, spend), self.test.cluster)
                rows.append(
                    {
                        "spend_per_voter_usd": float(spend),
                        "policy": name,
                        "gain": gain.value,
                        "low": gain.low,
                        "high": gain.high,
                    }
                )
        return rows

    def areas(self) -> Json:
        """Mean gain over the whole cost curve, alone and less the best mix."""
        spends = self.spends()
        weights = area_weights(spends)
        total = {
            name: sum(
                w * self.realised(name, s) for w, s in zip(weights, spends, strict=True)
            )
            for name in self.names
        }
        household = self.test.cluster
        found = {n: clustered_mean(np.asarray(t), household) for n, t in total.items()}
        paired = np.asarray(total["personalised"]) - np.asarray(total["best_mix"])
        found["personalised_less_best_mix"] = clustered_mean(paired, household)
        return {name: area.as_dict() for name, area in found.items()}


def _joined(halves: Sequence[Half], of: Callable[[Half], Floats]) -> Floats:
    """A value of every voter from the half that judged it, in the test's order."""
    found = [of(half) for half in halves]
    joined = np.empty((len(halves[0].held), *found[0].shape[1:]))
    for half, values in zip(halves, found, strict=True):
        joined[half.held] = values
    return joined


def _verdict(differences: Mapping[str, Interval], split_gain: Interval) -> Verdict:
    """The gate: above every baseline, and the champion, by its lower 95 % bound.

    Which baseline is best is uncertain too; to beat all of them is to beat the best,
    and needs no allowance for having chosen it (intersection-union test).
    """
    if all(difference.low > 0 for difference in differences.values()):
        return "personalise"
    # the split is chosen among many: held to 99.9 %, or null data pass too often
    if split_gain.value > SURE_OF_A_SPLIT * split_gain.se:
        return "one_split_suffices"
    return "not_worth_personalising"


def _champion(verdict: Verdict, judged: _Judged) -> str:
    present = "champion" in judged.names
    if present and verdict != "personalise" and _beats_baselines(judged, "champion"):
        return "champion"
    if verdict == "personalise":
        return "personalised"
    if verdict == "one_split_suffices":
        return "one_covariate"
    return judged.best(UNTARGETED)


def _beats_baselines(judged: _Judged, policy: str) -> bool:
    return all(judged.difference(policy, name).low > 0 for name in BASELINES)


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
    lift = _joined(halves, lambda half: half.lift)
    scores = _joined(halves, lambda half: half.message_scores)
    realised = scores[:, 1:] - scores[:, :1]
    slope = calibration_slope(realised, lift, test.cluster)
    edges = np.quantile(lift, np.linspace(0, 1, N_CALIBRATION_GROUPS + 1)[1:-1])
    group = np.searchsorted(np.unique(edges), lift, side="right")
    groups = []
    for g in np.unique(group):
        mine = group == g
        if mine.any(axis=1).sum() < SMALL_CELL:
            continue
        groups.append(
            {
                "message_id": "all",
                "predicted": float(lift[mine].mean()),
                "realised": _ratio_mean(realised, mine, test.cluster).as_dict(),
                "n": int(mine.any(axis=1).sum()),
            }
        )
    return {"slope": slope.as_dict(), "groups": groups}


def _ratio_mean(
    values: Floats, mine: npt.NDArray[np.bool_], cluster: npt.NDArray[np.int64]
) -> Interval:
    """Clustered mean over the (voter, message) pairs of a group."""
    size = mine.sum()
    mean = float(values[mine].mean())
    totals = np.bincount(cluster, np.where(mine, values - mean, 0.0).sum(axis=1))
    return Interval.of(mean, se=float(np.sqrt((totals**2).sum()) / size))


def _segments(
    test: MessageTest, halves: Sequence[Half], segment: npt.NDArray[np.object_]
) -> list[Json]:
    """Realised lift of every message in every segment, small cells left out."""
    scores = _joined(halves, lambda half: half.message_scores)
    realised = scores[:, 1:] - scores[:, :1]
    rows = []
    for name, where in pd.Series(segment).groupby(segment).groups.items():
        at = np.asarray(where)
        household = np.unique(test.cluster[at], return_inverse=True)[1]
        if len(at) < SMALL_CELL or household.max() < 1:
            continue
        for m, message in enumerate(test.messages):
            effect = clustered_mean(realised[at, m], household)
            rows.append(
                {
                    "message_id": message,
                    "segment": str(name),
                    "n": len(at),
                    "effect": effect.as_dict(),
                }
            )
    return rows


def _checks(test: MessageTest) -> Json:
    ratio = sample_ratio_p_value(test.arm, test.propensities, test.drawn)
    attrition = attrition_p_value(
        test.observed, test.arm, test.propensities, test.cluster
    )
    offered = test.propensities[test.propensities > 0]
    return {
        "sample_ratio": {"p_value": ratio, "ok": ratio >= ALARM},
        "attrition": {
            "p_value": attrition,
            "ok": attrition >= ALARM,
            "missing_share": float(1 - test.observed.mean()),
        },
        "overlap_min_propensity": float(offered.min()),
    }


def permuted_gain(
    test: MessageTest,
    market: Market,
    *,
    categorical: Sequence[int],
    issue_of: Mapping[str, str],
    params: Mapping[str, Any],
    seed: int,
) -> Interval:
    """The gain from personalising with the treatment labels shuffled: must be nil.

    Args:
        test: The experiment, arms as sent.
        market: Price, permission and spend.
        categorical: Columns of X that hold category codes.
        issue_of: Issue of every message.
        params: Settings of the trees.
        seed: Shuffling, halves and trees.
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
    )
    judged = _Judged(shuffled, market, halves)
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
    told = f"{gain['value']:+.2f} points ({gain['low']:+.2f} to {gain['high']:+.2f})"
    rival = LABELS[evaluated["best_baseline"]].lower()
    if evaluated["champion"] == "champion":
        return (
            "Keep personalising with the present champion: what was learnt now adds "
            f"{told} of '{label}' per voter over the best alternative ({rival}), and "
            "is not shown to beat the champion."
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
            f"Personalise: at equal spend it adds {told} of '{label}' per voter over "
            f"the best alternative ({rival})."
        )
    if evaluated["verdict"] == "one_split_suffices":
        return (
            "One split suffices: treating two groups differently beats treating all "
            f"alike, and personalising further adds {told}, which may be nothing."
        )
    instead = {
        "nobody": "send nothing",
        "single_best": "send the single best message to random people",
        "best_mix": "send the best mix of messages to random people",
    }
    return (
        f"Personalising is not shown to pay: it adds {told} of '{label}' per voter "
        f"over the best alternative ({rival}); {instead[evaluated['champion']]}."
    )
