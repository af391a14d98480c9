"""The figures of all tools, as JSON and as the Markdown that is read."""

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hustings.training.estimators.metrics import Interval
from tests.speed.peers.data_sets import DataSet
from tests.speed.peers.judge import Standing, Truthful, behind, holm
from tests.speed.peers.ours import NO_TARGETING, OURS, REFERENCES
from tests.speed.peers.over_tasks import over_tasks
from tests.speed.peers.peers import ENVIRONMENTS, PEERS

Json = dict[str, Any]

ALPHA = 0.05
SHORT = ("survey_", "issue_", "world_")
"""Tasks of which there are many: they have a row, not a table of their own."""


class Seen(NamedTuple):
    """A task judged.

    Attributes:
        data: The task.
        standing: Every tool on every split.
        seconds: CPU seconds of fit and predict, and threads, of every tool on the first
            split.
        failed: Tools that broke, and what they said last.
    """

    data: DataSet
    standing: Standing
    seconds: Mapping[str, tuple[float, float, float]]
    failed: Mapping[str, str]


def as_json(
    seen: Iterable[Seen],
    *,
    command: str,
    made_on: str,
    left_out: Mapping[str, str],
    partial: bool,
) -> Json:
    """Every figure of the tables, with what it takes to repeat them.

    Args:
        seen: The tasks, each let go of before the next is judged.
        command: That made them.
        made_on: Day, as YYYY-MM-DD.
        left_out: Tasks that could not be run, and why; read once all were seen.
        partial: Whether only some tasks, tools, splits or rows were run.
    """
    tasks = {s.data.name: _task_json(s) for s in seen}
    return {
        "command": command,
        "made_on": made_on,
        "partial": partial,
        "environments": {name: list(pins) for name, pins in ENVIRONMENTS.items()},
        "ours": {p: version(p) for p in ("lightgbm", "numpy", "scikit-learn", "scipy")},
        "left_out": dict(left_out),
        "tasks": tasks,
        "over_tasks": over_tasks(tasks),
    }


def _task_json(seen: Seen) -> Json:
    data, standing = seen.data, seen.standing
    figures = [f"gain_at_{spend:g}" for spend in data.spends]
    figures.append(f"area_to_{data.cost.max():g}")
    sent = data.truth is not None and bool(data.truth.lift.any())
    return {
        "hash": data.fingerprint,
        "n_voters": len(data.test.Y),
        "n_columns": len(data.features),
        "messages": list(data.test.messages),
        "costs": data.cost.tolist(),
        "figures": figures,
        "middle": figures[len(data.spends) // 2],
        "null": data.null,
        "ranked": not data.null or sent,
        "simulated": data.truth is not None,
        "arms_left_out": list(data.left_out),
        "failed": dict(seen.failed),
        "tools": {tool: _tool_json(tool, figures, seen) for tool in standing.tools},
        "behind": _compared(standing, figures, ahead=False),
        "ahead": _compared(standing, figures, ahead=True),
    }


def _tool_json(tool: str, figures: list[str], seen: Seen) -> Json:
    standing, n_messages = seen.standing, len(seen.data.cost)
    fit_s, predict_s, threads = seen.seconds.get(tool, (None, None, None))
    row_arms = len(seen.data.test.Y) / 2 * n_messages
    over = {f: _value(standing.ahead(tool, NO_TARGETING, i)) for i, f in
            enumerate(figures)}  # fmt: skip
    true_lead = standing.true_lead(tool, NO_TARGETING)
    lead = (
        {f: value and value["value"] for f, value in over.items()}
        if true_lead is None
        else dict(zip(figures, true_lead.tolist(), strict=True))
    )
    figure_values: Json = {
        "n_splits": len(standing.of(tool)),
        "gain": {f: _value(standing.gain(tool, i)) for i, f in enumerate(figures)},
        "ahead_of_no_targeting": over,
        # the true one where the truth is known
        "lead": lead,
        "slope": _value(standing.slope(tool)),
        "spread": standing.spread(tool).tolist(),
        "fit_seconds": fit_s,
        "predict_seconds": predict_s,
        "row_arms_per_second": row_arms / predict_s if predict_s else None,
        "threads": threads,
    }
    known = standing.truthful(tool)
    if known is not None:
        references = {name: standing.truthful(name) for name in REFERENCES}
        figure_values["against_truth"] = _truth_json(known, references, seen.data.flat)
    return figure_values


def _truth_json(
    known: Truthful, references: Mapping[str, Truthful | None], flat: Sequence[str]
) -> Json:
    values: Json = {k: _plain(v) for k, v in known._asdict().items()}
    values["share"] = _plain(known.share)
    values["flat_spread"] = dict(zip(flat, values["flat_spread"], strict=True))
    values["share_of"] = {
        name: _plain(known.share / reference.share)
        for name, reference in references.items()
        if reference is not None and (reference.gained > 0).all()
    }
    return values


def _plain(value: Any) -> Any:
    """Numbers as JSON has them: it knows no NaN.

    A tool without a spread has no slope, one without intervals no coverage, and where
    nothing can be gained there is no share.
    """
    listed = np.asarray(value, dtype=float).tolist()
    if isinstance(listed, list):
        return [None if np.isnan(v) else v for v in listed]
    return None if np.isnan(listed) else listed


def _value(interval: Interval | None) -> Json | None:
    return None if interval is None else {"value": interval.value, "se": interval.se}


def _compared(standing: Standing, figures: list[str], *, ahead: bool) -> Json:
    """How sure it is that a row of ours is behind (or ahead of) a peer on any figure.

    Returns:
        By row of ours and peer: the least p-value, by Holm over all peers and figures.
    """
    peers = [p.name for p in PEERS if p.name in standing.tools]
    by_row: Json = {}
    for row in (row for row in OURS if row in standing.tools):
        pairs = [(row, peer) if not ahead else (peer, row) for peer in peers]
        p_values = holm(
            {
                (peer, i): behind(difference)
                for peer, pair in zip(peers, pairs, strict=True)
                for i in range(len(figures))
                if (difference := standing.ahead(*pair, i)) is not None
            }
        )
        by_row[row] = {
            peer: min(p for (name, _), p in p_values.items() if name == peer)
            for peer in peers
        }
    return by_row


# Markdown


def as_markdown(tables: Json) -> str:
    """The tables, widest claims first."""
    parts = [_head(tables)]
    if tables["over_tasks"]["tools"]:
        parts += [_summary(tables), _pooled_tables(tables)]
    if any(task["null"] for task in tables["tasks"].values()):
        parts.append(_null_table(tables))
    if any(task["simulated"] for task in tables["tasks"].values()):
        parts.append(_worlds_table(tables))
    parts.append(_by_task(tables))
    for name, task in tables["tasks"].items():
        if not name.startswith(SHORT):
            parts.append(_task_table(name, task))
            if task["simulated"]:
                parts.append(_truth_table(task))
    return "\n\n".join(parts) + "\n"


def write(tables: Json, path: Path) -> None:
    """Both files: `path` with the suffixes .json and .md."""
    # a line for each task: a thousand lines would hide which one has changed
    head = json.dumps({**_rounded(tables), "tasks": None}, indent=1, allow_nan=False)
    lines = [
        f"  {json.dumps(name)}: {json.dumps(_rounded(task), allow_nan=False)}"
        for name, task in tables["tasks"].items()
    ]
    listed = "{\n" + ",\n".join(lines) + "\n }"
    text = head.replace('"tasks": null', f'"tasks": {listed}', 1)
    path.with_suffix(".json").write_text(text + "\n")
    path.with_suffix(".md").write_text(as_markdown(tables))


def _rounded(values: Any) -> Any:
    """The same JSON with numbers of six digits."""
    if isinstance(values, dict):
        return {key: _rounded(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_rounded(value) for value in values]
    return float(f"{values:.6g}") if isinstance(values, float) else values


def in_one_line(tables: Json) -> str:
    """What came of a run, for the log of looks."""
    over = tables["over_tasks"]
    parts = [f"{len(tables['tasks'])} tasks"]
    for row in OURS:
        of_row = over["tools"].get(row)
        if of_row is None:
            continue
        parts.append(
            f"{row}: mean rank {_number(of_row['mean_rank'], '.2f')}, standardised "
            f"{_number(of_row['standardised'], '+.2f')}"
        )
        for kind, pooled in over["pooled"].items():
            best = over["best_peer"].get(kind)
            versus = pooled[row].get(best) if best else None
            if versus is not None:
                parts.append(f"{kind}, less {best}: {_pooled_cell(versus['points'])}")
    if tables["left_out"]:
        parts.append(f"left out: {', '.join(tables['left_out'])}")
    return "; ".join(parts)


def _head(tables: Json) -> str:
    pins = "; ".join(f"{k}: {', '.join(v)}" for k, v in tables["environments"].items())
    tasks = tables["tasks"].values()
    real = sum(not task["simulated"] for task in tasks)
    n_splits = max(
        (
            values["n_splits"]
            for task in tasks
            if not task["simulated"]
            for values in task["tools"].values()
        ),
        default=0,
    )
    left_out = "".join(f" {n}: {why}." for n, why in tables["left_out"].items())
    partial = (
        "**Partial: some tasks, tools, splits or rows only. It shows that the bench "
        "works and settles nothing.**\n\n"
    )
    return (
        "# Our learners beside the public ones\n\n"
        f"{partial if tables['partial'] else ''}"
        f"Made on {tables['made_on']} by `{tables['command']}` (`make bench-peers`): "
        f"{real} real tasks in {n_splits} splits, {len(tasks) - real} simulated in "
        "one.\n"
        f"Environments of the tools: {pins}.\n\n"
        "Each split halves the units; what is learnt on one half is judged on the "
        "other, both ways, by doubly robust scores with known propensities whose "
        "nuisances are cross-fitted on the judged half. Voters are assigned one by "
        "one, money goes along the whole-budget path of the predicted lifts. Gains "
        "are points of the outcome per voter, in brackets the clustered standard "
        "error; Δ is the paired difference from no targeting (the best mix of "
        "messages for the money, by shrunken average effects, to random people); the "
        "area is the mean gain over spends up to the cost of the dearest message. "
        "Splits of one task are averaged, never counted as independent. All tools "
        "use the same LightGBM settings and the same imputed, one-hot columns; where "
        "a tool takes known propensities it got them, else the arms' shares. Seconds "
        "are of the processor, on the first split. Where a tool broke, its row counts "
        f"as no targeting. {_too_slow()}grf is written in R and is not among "
        f"them.{' Left out:' + left_out if left_out else ''}"
    )


def _too_slow() -> str:
    """Which tools do not run everywhere."""
    text = ""
    for peer in PEERS:
        if peer.most_work is not None:
            text += (
                f"{peer.name} runs on as many splits as make at most "
                f"{peer.most_work:,} rows × columns × messages², on none of the larger "
                "tasks. "
            )
    return text


def _summary(tables: Json) -> str:
    over = tables["over_tasks"]
    rows = sorted(
        over["tools"].items(),
        key=lambda item: (item[1]["mean_rank"] or np.inf, -(item[1]["standardised"])),
    )
    table = _grid(
        ["tool", "tasks", "failed", "mean rank", "standardised gain", "real", "worlds",
         "CPU s"],
        [
            [
                tool, str(s["n_tasks"]), str(s["n_failed"]),
                _number(s["mean_rank"], ".2f"),
                *(_number(s[k], "+.2f") for k in ("standardised", "real", "worlds")),
                _number(s["cpu_seconds"], ".0f"),
            ]
            for tool, s in rows
        ],
    )  # fmt: skip
    return (
        f"## Over {over['n_ranked']} tasks\n\n"
        "Standardised gain: gain over no targeting in standard errors of such a "
        "difference (the median of the public tools' on the same data), averaged over "
        "the figures of a task and over tasks; on simulated worlds the gain is the "
        "true one. Ranks are among the tools that ran on all of these tasks. Tasks "
        f"where nobody is known to be worth anything are not among them.\n\n{table}"
    )


def _pooled_tables(tables: Json) -> str:
    over = tables["over_tasks"]
    parts = [
        "## Ours less each other tool, pooled over tasks\n\n"
        "Paired differences at the middle spend, in points and in the standard errors "
        "above (all figures); the mean over tasks with its 95 % t interval over tasks, "
        "and the difference that as many tasks would detect with power .8. The best "
        "public tool is the one of most standardised gain on these very tasks, which "
        "flatters it. Ahead and behind: tasks on which a figure differs at "
        f"{ALPHA:g} (one-sided, Holm over tools and figures of the task)."
    ]
    for kind, by_row in over["pooled"].items():
        best = over["best_peer"].get(kind)
        for row, versus in by_row.items():
            lines = [
                [
                    f"**{peer}**" if peer == best else peer, str(v["n_tasks"]),
                    _pooled_cell(v["points"]),
                    _number(v["points"]["detectable"], ".2f"),
                    _pooled_cell(v["standardised"]),
                    _number(v["standardised"]["detectable"], ".2f"),
                    str(v["n_ahead"]), str(v["n_behind"]),
                ]
                for peer, v in versus.items()
            ]  # fmt: skip
            parts.append(
                f"{row}, {kind}:\n\n"
                + _grid(
                    ["less", "tasks", "points", "detectable", "standard errors",
                     "detectable", "ahead", "behind"],
                    lines,
                )
            )  # fmt: skip
    return "\n\n".join(parts)


def _pooled_cell(pooled: Json) -> str:
    if pooled["low"] is None:
        return f"{pooled['value']:+.2f}"
    return f"{pooled['value']:+.2f} ({pooled['low']:+.2f} to {pooled['high']:+.2f})"


def _null_table(tables: Json) -> str:
    """Tasks without anything to find: what a tool loses and invents there."""
    nulls = {n: t for n, t in tables["tasks"].items() if t["null"]}
    tools = dict.fromkeys(tool for t in nulls.values() for tool in t["tools"])
    rows = []
    for tool in tools:
        on = [t for t in nulls.values() if tool in t["tools"]]
        lead = [t["tools"][tool]["lead"][t["middle"]] for t in on]
        spread = [np.mean(t["tools"][tool]["spread"]) for t in on]
        rows.append([
            tool, str(len(on)), f"{np.mean(lead):+.2f}", f"{np.mean(spread):.2f}",
        ])  # fmt: skip
    return (
        "## Where nobody is worth more than another\n\n"
        f"{', '.join(nulls)}: gain over no targeting at the middle spend, in points, "
        "and spread of the predicted lifts between voters (SD, points), which is "
        "invented.\n\n" + _grid(["tool", "tasks", "Δ", "spread"], rows)
    )


def _worlds_table(tables: Json) -> str:
    """Every tool against the truth, averaged over the worlds."""
    worlds = [t for t in tables["tasks"].values() if t["simulated"]]
    tools = dict.fromkeys(tool for t in worlds for tool in t["tools"])
    rows = []
    for tool in tools:
        known = [
            (t["tools"][tool]["against_truth"],
             t["tools"][NO_TARGETING]["against_truth"])
            for t in worlds
            if tool in t["tools"]
        ]  # fmt: skip
        error = [k["rmse"] / c["rmse"] for k, c in known if c["rmse"] > 0]
        means = [
            error,
            *(
                [k[name] for k, _ in known if k[name] is not None]
                for name in ("slope", "coverage", "width")
            ),
        ]
        on = [t["tools"] for t in worlds if tool in t["tools"]]
        informed = [tools for tools in on if REFERENCES[0] in tools]
        rows.append([
            tool, str(len(known)),
            _number(_share(tool, on, "possible", of=tool), ".2f"),
            _number(_share(tool, informed, "gained", of=REFERENCES[0]), ".2f"),
            *(_number(float(np.mean(v)) if v else None, ".2f") for v in means),
        ])  # fmt: skip
    header = [
        "tool", "worlds", "share of the oracle", "share of the reference",
        "error / no targeting's", "slope", "coverage", "width",
    ]  # fmt: skip
    return (
        "## Against the truth of the worlds\n\n"
        "True gain over all worlds and figures as a share of the oracle's, and of what "
        "the learner gains that knows the prior of each group (on the worlds that are "
        "small enough for it); means over worlds of the root mean square error of the "
        "predicted lifts over that of no targeting; slope of true on predicted lift; "
        "coverage and mean width of the "
        f"95 % intervals, points.\n\n{_grid(header, rows)}"
    )


def _share(tool: str, worlds: Sequence[Json], name: str, *, of: str) -> float | None:
    """What a tool gains in points, all worlds and figures, over what another row has.

    Args:
        tool: That gains.
        worlds: By world, the figures of every tool.
        name: "gained" or "possible".
        of: The other row.
    """
    gained = sum(np.sum(t[tool]["against_truth"]["gained"]) for t in worlds)
    whole = sum(np.sum(t[of]["against_truth"][name]) for t in worlds)
    return float(gained / whole) if whole > 0 else None


def _by_task(tables: Json) -> str:
    """A row for each task: what was gained over no targeting at the middle spend."""
    rows = []
    public = [p.name for p in PEERS]
    for name, task in tables["tasks"].items():
        middle, tools = task["middle"], task["tools"]
        leads = {k: t["lead"][middle] for k, t in tools.items()}
        ran = [p for p in public if p in tools]
        best = max(ran, key=lambda peer: leads[peer], default=None)
        for row in (row for row in OURS if row in tools):
            lost = [p for p, v in task["behind"][row].items() if v < ALPHA]
            rows.append([
                name, f"{task['n_voters']:,}", str(task["n_columns"]),
                str(len(task["messages"])), middle.removeprefix("gain_at_"), row,
                _cell(tools[row]["gain"][middle]),
                _cell(tools[row]["ahead_of_no_targeting"][middle], signed=True),
                f"{leads[row]:+.2f}" if task["simulated"] else "",
                "–" if best is None else f"{best} {leads[best]:+.2f}",
                ", ".join(lost) or "none",
            ])  # fmt: skip
    header = [
        "task", "rows", "columns", "messages", "spend", "row", "gain", "Δ", "true Δ",
        "best public tool, its Δ", "behind",
    ]  # fmt: skip
    return (
        "## By task\n\nAt the middle spend; the best public tool of each task is "
        "chosen on the task itself. Behind: as above.\n\n" + _grid(header, rows)
    )


def _task_table(name: str, task: Json) -> str:
    figures = task["figures"]
    header = ["tool", "splits"]
    for figure in figures:
        header += [figure.replace("_", " "), "Δ"]
    header += ["slope", "fit s", "row-arms/s"]
    rows = [
        _tool_row(tool, figures, values)
        for tool, values in sorted(
            task["tools"].items(), key=lambda t: -t[1]["gain"][figures[-1]]["value"]
        )
    ]
    note = " Nobody is known to be worth targeting here." if task["null"] else ""
    return (
        f"## {name}\n\n{task['n_voters']:,} voters, {len(task['messages'])} messages "
        f"at {', '.join(f'{c:g}' for c in task['costs'])}; data {task['hash'][:16]}."
        f"{note}\n\n{_grid(header, rows)}"
    )


def _tool_row(tool: str, figures: Sequence[str], values: Json) -> list[str]:
    cells = [tool, str(values["n_splits"])]
    for figure in figures:
        cells.append(_cell(values["gain"][figure]))
        cells.append(_cell(values["ahead_of_no_targeting"][figure], signed=True))
    cells += [
        _cell(values["slope"]),
        _number(values["fit_seconds"], ".1f"),
        _number(values["row_arms_per_second"], ".2g"),
    ]
    return cells


def _cell(value: Json | None, *, signed: bool = False) -> str:
    if value is None or (value["value"] == 0 and value["se"] == 0):
        return "–"
    sign = "+" if signed else ""
    return f"{value['value']:{sign}.2f} ({value['se']:.2f})"


def _number(value: float | None, form: str) -> str:
    return "–" if value is None else f"{value:{form}}"


def _truth_table(task: Json) -> str:
    shares = [f"share, {f.replace('_', ' ')}" for f in task["figures"]]
    flat = list(task["tools"][NO_TARGETING]["against_truth"]["flat_spread"])
    header = [
        "tool", *shares, *(f"least share of the {r}" for r in REFERENCES),
        "RMSE", "slope", *(f"spread {m}" for m in flat), "coverage", "width",
    ]  # fmt: skip
    rows = [
        _truth_row(tool, values["against_truth"])
        for tool, values in sorted(
            task["tools"].items(), key=lambda t: t[1]["against_truth"]["rmse"]
        )
    ]
    return (
        f"Against the truth (shares are of the oracle's gain):\n\n{_grid(header, rows)}"
    )


def _truth_row(tool: str, known: Json) -> list[str]:
    least = [min(known["share_of"].get(r, [None])) for r in REFERENCES]
    numbers = [
        *known["share"], *least, known["rmse"], known["slope"],
        *known["flat_spread"].values(), known["coverage"], known["width"],
    ]  # fmt: skip
    return [tool, *(_number(v, ".2f") for v in numbers)]


def _grid(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
