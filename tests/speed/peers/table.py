"""The figures of all tools, as JSON and as the Markdown that is read."""

import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hustings.training.estimators.metrics import Interval
from tests.speed.peers.data_sets import FLAT_MESSAGES, DataSet
from tests.speed.peers.judge import Standing, Truthful, behind, holm
from tests.speed.peers.ours import NO_TARGETING, OURS, REFERENCES
from tests.speed.peers.peers import ENVIRONMENTS, PEERS

Json = dict[str, Any]

YARDSTICK = "EconML LinearDRLearner"
"""The standard error of its difference from no targeting is the unit in which tools are
compared over data sets."""
ALPHA = 0.05


class Seen(NamedTuple):
    """A data set judged.

    Attributes:
        data: The set.
        standing: Every tool on every split.
        seconds: Fit, predict and threads of every tool on the first split.
    """

    data: DataSet
    standing: Standing
    seconds: Mapping[str, tuple[float, float, float]]


def as_json(seen: Sequence[Seen], *, command: str, made_on: str) -> Json:
    """Every figure of the tables, with what it takes to repeat them.

    Args:
        seen: The data sets.
        command: That made them.
        made_on: Day, as YYYY-MM-DD.
    """
    sets = {s.data.name: _data_json(s) for s in seen}
    return {
        "command": command,
        "made_on": made_on,
        "environments": {name: list(pins) for name, pins in ENVIRONMENTS.items()},
        "ours": {p: version(p) for p in ("lightgbm", "numpy", "scikit-learn", "scipy")},
        "yardstick": YARDSTICK,
        "data": sets,
        "standardised": _standardised(sets),
    }


def _data_json(seen: Seen) -> Json:
    data, standing = seen.data, seen.standing
    figures = [f"gain_at_{spend:g}" for spend in data.spends]
    figures.append(f"area_to_{data.cost.max():g}")
    return {
        "hash": data.fingerprint,
        "n_voters": len(data.test.Y),
        "messages": list(data.test.messages),
        "costs": data.cost.tolist(),
        "figures": figures,
        "null": data.null,
        "tools": {tool: _tool_json(tool, figures, seen) for tool in standing.tools},
        "behind": {} if data.null else _behind(standing, figures),
    }


def _tool_json(tool: str, figures: list[str], seen: Seen) -> Json:
    standing, n_messages = seen.standing, len(seen.data.cost)
    fit_s, predict_s, threads = seen.seconds.get(tool, (None, None, None))
    row_arms = len(seen.data.test.Y) / 2 * n_messages
    found: Json = {
        "n_splits": len(standing.of(tool)),
        "gain": {f: _value(standing.gain(tool, i)) for i, f in enumerate(figures)},
        "ahead_of_no_targeting": {
            f: _value(standing.ahead(tool, NO_TARGETING, i))
            for i, f in enumerate(figures)
        },
        "slope": _value(standing.slope(tool)),
        "spread": standing.spread(tool).tolist(),
        "fit_seconds": fit_s,
        "row_arms_per_second": row_arms / predict_s if predict_s else None,
        "threads": threads,
    }
    known = standing.truthful(tool)
    if known is not None:
        references = {name: standing.truthful(name) for name in REFERENCES}
        found["against_truth"] = _truth_json(known, references)
    return found


def _truth_json(known: Truthful, references: Mapping[str, Truthful | None]) -> Json:
    found = {k: np.asarray(v).tolist() for k, v in known._asdict().items()}
    # JSON knows no NaN: a tool without a spread has no slope, one without intervals
    # no coverage
    for name in ("slope", "coverage", "width"):
        found[name] = None if np.isnan(found[name]) else found[name]
    found["flat_spread"] = dict(zip(FLAT_MESSAGES, found["flat_spread"], strict=True))
    found["share_of"] = {
        name: (known.share / reference.share).tolist()
        for name, reference in references.items()
        if reference is not None
    }
    return found


def _value(found: Interval | None) -> Json | None:
    return None if found is None else {"value": found.value, "se": found.se}


def _behind(standing: Standing, figures: list[str]) -> Json:
    """Whether a row of ours is behind a peer on any figure: Holm over all of them."""
    peers = [p.name for p in PEERS if p.name in standing.tools]
    told: Json = {}
    for mine in (row for row in OURS if row in standing.tools):
        tests = {
            (peer, f): standing.ahead(mine, peer, i)
            for peer in peers
            for i, f in enumerate(figures)
        }
        p_values = holm({k: behind(d) for k, d in tests.items() if d is not None})
        told[mine] = {
            peer: min(p for (who, _), p in p_values.items() if who == peer)
            for peer in peers
        }
    return told


def _standardised(sets: Mapping[str, Json]) -> Json:
    """By tool: (gain − no targeting) / SE of the yardstick's, averaged over figures."""
    told: Json = {}
    for name, found in sets.items():
        yardstick = found["tools"].get(YARDSTICK)
        if found["null"] or yardstick is None:
            continue
        unit = yardstick["ahead_of_no_targeting"]
        for tool, figures in found["tools"].items():
            ahead = figures["ahead_of_no_targeting"]
            scaled = [ahead[f]["value"] / unit[f]["se"] for f in found["figures"]]
            told.setdefault(tool, {})[name] = float(np.mean(scaled))
    return {tool: {**by_set, "mean": _mean(by_set)} for tool, by_set in told.items()}


def _mean(by_set: Mapping[str, float]) -> float:
    return float(np.mean(list(by_set.values())))


# Markdown


def as_markdown(told: Json) -> str:
    """The tables, widest claims first."""
    parts = [_head(told)]
    if told["standardised"]:
        parts.append(_summary(told))
    for name, found in told["data"].items():
        parts.append(_data_table(name, found))
        if any("against_truth" in tool for tool in found["tools"].values()):
            parts.append(_truth_table(found))
    return "\n\n".join(parts) + "\n"


def write(told: Json, path: Path) -> None:
    """Both files: `path` with the suffixes .json and .md."""
    text = json.dumps(told, indent=1, allow_nan=False)
    path.with_suffix(".json").write_text(text + "\n")
    path.with_suffix(".md").write_text(as_markdown(told))


def _head(told: Json) -> str:
    pins = "; ".join(f"{k}: {', '.join(v)}" for k, v in told["environments"].items())
    return (
        "# Our learners beside the public ones\n\n"
        f"Made on {told['made_on']} by `{told['command']}` (`make bench-peers`).\n"
        f"Environments of the tools: {pins}.\n\n"
        "Each split halves the units; what is learnt on one half is judged on the "
        "other, both ways, by doubly robust scores with known propensities whose "
        "nuisances are cross-fitted on the judged half. Voters are assigned one by "
        "one, money goes along the whole-budget path of the predicted lifts. Gains "
        "are points of the outcome per voter, in brackets the clustered standard "
        "error; Δ is the paired difference from no targeting (the best mix of "
        "messages for the money, by shrunken average effects, to random people); the "
        "area is the mean gain over spends up to the cost of the dearest message. "
        "Splits of one data set are averaged, never counted as independent. All tools "
        "use the same LightGBM settings and the same imputed, one-hot columns; where "
        "a tool takes known propensities it got them, else the arms' shares. Seconds "
        f"are of the first split. {_too_slow()}grf is written in R and is not among "
        "them."
    )


def _too_slow() -> str:
    """Which tools do not run everywhere."""
    told = ""
    for peer in PEERS:
        if peer.n_splits is not None:
            told += f"{peer.name} runs on {peer.n_splits} split(s) only"
            told += "".join(f", not on {name}" for name in peer.skips) + ". "
    return told


def _summary(told: Json) -> str:
    names = [n for n, found in told["data"].items() if not found["null"]]
    rows = sorted(told["standardised"].items(), key=lambda item: -item[1]["mean"])
    whole = [(t, s) for t, s in rows if all(n in s for n in names)]
    table = _grid(
        ["tool", *names, "mean"],
        [[t, *(f"{s[n]:+.2f}" for n in names), f"{s['mean']:+.2f}"] for t, s in whole],
    )
    return (
        "## Mean standardised gain\n\n"
        "Gain over no targeting, in standard errors of that difference of "
        f"{told['yardstick']}, averaged over the figures of a data set.\n\n"
        f"{table}\n\n{_behind_table(told, names)}"
    )


def _behind_table(told: Json, names: Sequence[str]) -> str:
    rows = []
    for name in names:
        for mine, by_peer in told["data"][name]["behind"].items():
            if not by_peer:
                continue
            worst = min(by_peer, key=lambda peer: by_peer[peer])
            lost = [peer for peer, p in by_peer.items() if p < ALPHA]
            rows.append([
                name, mine, ", ".join(lost) or "none", worst, f"{by_peer[worst]:.3f}",
            ])  # fmt: skip
    return (
        f"Behind a public tool (one-sided, Holm over tools and figures, {ALPHA:g}):\n\n"
        + _grid(["data", "row", "behind", "closest", "adjusted p"], rows)
    )


def _data_table(name: str, found: Json) -> str:
    figures = found["figures"]
    header = ["tool", "splits"]
    for figure in figures:
        header += [figure.replace("_", " "), "Δ"]
    header += ["slope", "fit s", "row-arms/s"]
    rows = [
        _data_row(tool, figures, seen)
        for tool, seen in sorted(
            found["tools"].items(), key=lambda t: -t[1]["gain"][figures[-1]]["value"]
        )
    ]
    note = " Nobody is known to be worth targeting here." if found["null"] else ""
    return (
        f"## {name}\n\n{found['n_voters']:,} voters, {len(found['messages'])} messages "
        f"at {', '.join(f'{c:g}' for c in found['costs'])}; data {found['hash'][:16]}."
        f"{note}\n\n{_grid(header, rows)}"
    )


def _data_row(tool: str, figures: Sequence[str], seen: Json) -> list[str]:
    cells = [tool, str(seen["n_splits"])]
    for figure in figures:
        cells.append(_cell(seen["gain"][figure]))
        cells.append(_cell(seen["ahead_of_no_targeting"][figure], signed=True))
    speed = seen["row_arms_per_second"]
    cells += [
        _cell(seen["slope"]),
        "–" if seen["fit_seconds"] is None else f"{seen['fit_seconds']:.1f}",
        "–" if speed is None else f"{speed:.2g}",
    ]  # fmt: skip
    return cells


def _cell(found: Json | None, *, signed: bool = False) -> str:
    if found is None or (found["value"] == 0 and found["se"] == 0):
        return "–"
    sign = "+" if signed else ""
    return f"{found['value']:{sign}.2f} ({found['se']:.2f})"


def _truth_table(found: Json) -> str:
    shares = [f"share, {f.replace('_', ' ')}" for f in found["figures"]]
    header = [
        "tool", *shares, *(f"least share of the {r}" for r in REFERENCES),
        "RMSE", "slope", *(f"spread {m}" for m in FLAT_MESSAGES), "coverage", "width",
    ]  # fmt: skip
    rows = [
        _truth_row(tool, seen["against_truth"])
        for tool, seen in sorted(
            found["tools"].items(), key=lambda t: t[1]["against_truth"]["rmse"]
        )
    ]
    return (
        f"Against the truth (shares are of the oracle's gain):\n\n{_grid(header, rows)}"
    )


def _truth_row(tool: str, known: Json) -> list[str]:
    numbers = [
        *known["share"], *(min(known["share_of"][r]) for r in REFERENCES),
        known["rmse"], known["slope"], *known["flat_spread"].values(),
        known["coverage"], known["width"],
    ]  # fmt: skip
    return [tool, *("–" if v is None else f"{v:.2f}" for v in numbers)]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
