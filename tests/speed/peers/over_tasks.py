"""What many tasks say together: ranks, standardised gains, pooled paired differences.

Everything here is read off the figures of the single tasks, T of them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from tests.speed.peers.ours import (
    DECILES,
    NO_TARGETING,
    ONE_COVARIATE,
    OURS,
    REFERENCES,
)
from tests.speed.peers.peers import PEERS

Json = dict[str, Any]

PUBLIC = frozenset(peer.name for peer in PEERS)
ALPHA, POWER = 0.05, 0.8
REAL, WORLDS = "real tasks", "worlds"


def over_tasks(tasks: Mapping[str, Json]) -> Json:
    """Every tool over all tasks.

    Args:
        tasks: Figures of each.
    """
    ranked = {n: t for n, t in tasks.items() if t["ranked"]}
    scores = {name: standardised(task) for name, task in ranked.items()}
    scores = {name: score for name, score in scores.items() if score}
    tools = dict.fromkeys(tool for score in scores.values() for tool in score)
    ranks = mean_ranks(list(scores.values()))
    return {
        "n_ranked": len(scores),
        "tools": {
            tool: {
                "mean_rank": ranks.get(tool),
                "n_tasks": sum(tool in score for score in scores.values()),
                "n_failed": sum(tool in t["failed"] for t in tasks.values()),
                "standardised": _mean([s[tool] for s in scores.values() if tool in s]),
                "real": _mean(_of_kind(tool, scores, tasks, simulated=False)),
                "worlds": _mean(_of_kind(tool, scores, tasks, simulated=True)),
                "cpu_seconds": _cpu_seconds(tool, tasks),
            }
            for tool in tools
        },
        "best_peer": {
            kind: best
            for kind, simulated in ((REAL, False), (WORLDS, True))
            if (best := _best_peer(scores, tasks, simulated=simulated)) is not None
        },
        "pooled": {
            kind: pooled
            for kind, simulated in ((REAL, False), (WORLDS, True))
            if (pooled := _pooled(tasks, simulated=simulated))
        },
    }


def standardised(task: Json) -> dict[str, float]:
    """Every tool's lead over no targeting, in standard errors of such a lead.

    A tool that failed on any split is worth what no targeting is.

    Returns:
        By tool, the mean over the figures; empty where nothing has a standard error.
    """
    unit = _units(task)
    if not unit:
        return {}
    score = {}
    for tool, values in task["tools"].items():
        lead = values["lead"]
        score[tool] = float(np.mean([lead[f] / unit[f] for f in unit]))
    return score | dict.fromkeys(task["failed"], 0.0)


def _units(task: Json) -> dict[str, float]:
    """Median standard error of the public tools' leads by figure.

    A tool that does what no targeting does has none, and is no measure; where none of
    the public tools has one, it is the median of all.
    """
    units = {}
    for figure in task["figures"]:
        errors = {
            tool: values["ahead_of_no_targeting"][figure]["se"]
            for tool, values in task["tools"].items()
            if values["ahead_of_no_targeting"][figure]["se"] > 0
        }
        public = [se for tool, se in errors.items() if tool in PUBLIC]
        if errors:
            units[figure] = float(np.median(public or list(errors.values())))
    return units


def mean_ranks(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Mean rank of every tool that has a score on all tasks; 1 is the best.

    Tools that know the prior of a world are not ranked.

    Args:
        scores: By task, every tool's.

    >>> mean_ranks([{"a": 2.0, "b": 1.0, "c": 3.0}, {"a": 0.0, "b": 0.0}])
    {'a': 1.25, 'b': 1.75}
    """
    if not scores:
        return {}
    common = [
        tool
        for tool in scores[0]
        if tool not in REFERENCES and all(tool in score for score in scores)
    ]
    ranks = [stats.rankdata([-score[tool] for tool in common]) for score in scores]
    return dict(zip(common, np.mean(ranks, axis=0).tolist(), strict=True))


def _of_kind(
    tool: str,
    scores: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Json],
    *,
    simulated: bool,
) -> list[float]:
    return [
        score[tool]
        for name, score in scores.items()
        if tool in score and tasks[name]["simulated"] == simulated
    ]


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _cpu_seconds(tool: str, tasks: Mapping[str, Json]) -> float | None:
    seconds = [
        values["fit_seconds"] + values["predict_seconds"]
        for task in tasks.values()
        if (values := task["tools"].get(tool)) and values["fit_seconds"] is not None
    ]
    return float(np.sum(seconds)) if seconds else None


def _best_peer(
    scores: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, Json],
    *,
    simulated: bool,
) -> str | None:
    """The public tool of most standardised gain among those that ran on all tasks."""
    of_kind = [s for n, s in scores.items() if tasks[n]["simulated"] == simulated]
    means = {
        peer.name: np.mean([score[peer.name] for score in of_kind])
        for peer in PEERS
        if of_kind and all(peer.name in score for score in of_kind)
    }
    return max(means, key=lambda name: means[name], default=None)


def _pooled(tasks: Mapping[str, Json], *, simulated: bool) -> Json:
    """Ours less every other tool on the tasks that both ran on.

    Real tasks without known heterogeneity are among them, worlds without any lift, in
    which all tools gain the same, are not.
    """
    of_kind = [
        t
        for t in tasks.values()
        if t["simulated"] == simulated and (t["ranked"] or not simulated)
    ]
    others = [p.name for p in PEERS] + [NO_TARGETING, ONE_COVARIATE, DECILES]
    pooled: Json = {}
    for row in OURS:
        for other in others:
            shared = [t for t in of_kind if _is_in(row, t) and _is_in(other, t)]
            if not shared:
                continue
            scores = [score for t in shared if (score := standardised(t))]
            pooled.setdefault(row, {})[other] = {
                "n_tasks": len(shared),
                "points": pooled_mean(
                    [_lead(row, t) - _lead(other, t) for t in shared]
                ),
                "standardised": pooled_mean([s[row] - s[other] for s in scores]),
                "n_ahead": _n_sure("ahead", row, other, shared),
                "n_behind": _n_sure("behind", row, other, shared),
            }
    return pooled


def _is_in(tool: str, task: Json) -> bool:
    return tool in task["tools"] or tool in task["failed"]


def _lead(tool: str, task: Json) -> float:
    """Over no targeting at the middle spend, points; of a tool that failed, none."""
    if tool in task["failed"]:
        return 0.0
    return float(task["tools"][tool]["lead"][task["middle"]])


def _n_sure(side: str, row: str, other: str, tasks: Sequence[Json]) -> int:
    return sum(task[side].get(row, {}).get(other, 1.0) < ALPHA for task in tasks)


def pooled_mean(differences: Sequence[float]) -> Json:
    """Mean over tasks with its t interval, and what as many tasks would detect.

    Tasks are what is sampled: their spread holds the noise within each and the
    difference between them.

    Args:
        differences: One a task.

    Returns:
        value, low, high, and detectable: the mean difference that a two-sided test at
        5 % finds with power .8; None of one task, which says nothing of its spread.
    """
    n = len(differences)
    value = float(np.mean(differences)) if n else 0.0
    if n < 2:
        return {"value": value, "low": None, "high": None, "detectable": None}
    se = float(np.std(differences, ddof=1) / np.sqrt(n))
    t = float(stats.t.ppf(1 - ALPHA / 2, n - 1))
    return {
        "value": value,
        "low": value - t * se,
        "high": value + t * se,
        "detectable": (t + float(stats.t.ppf(POWER, n - 1))) * se,
    }
