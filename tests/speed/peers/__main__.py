"""Our learners beside the public ones on many tasks: `make bench-peers`.

    python -m tests.speed.peers [--tasks build|verdict|NAME ...] [--peer NAME ...]
                                [--splits N] [--most-rows N] [--cached] [--again]
                                [--threads N] [--out PATH] [--decided TEXT]

Without `--tasks` the build tasks run, never the verdict. A run of all build tasks
writes tests/speed/peers.json and .md, one of the whole verdict peers_verdict.json and
.md, any other prints its tables only, unless `--out` says where to write them. A look
at a verdict task needs `--decided`, who decided what, and is logged
(tests/speed/verdict_looks.md) when it begins and when it ends. What a tool predicted is
kept in .data/peers/cache, so that a repeat fits only what has changed.
"""

import os

# before LightGBM is imported: threads that wait without sleeping starve each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.speed.peers import looks
from tests.speed.peers.data_sets import DataSet, TooFewAnswersError
from tests.speed.peers.judge import Standing, Verdict, verdict
from tests.speed.peers.judged import judged
from tests.speed.peers.ours import (
    NO_TARGETING,
    OURS,
    Learning,
    our_file,
    predict_by_ours,
    rows_of,
)
from tests.speed.peers.peers import (
    PEERS,
    THREADS,
    Peer,
    Split,
    halves,
    peer_file,
    predict_by_peer,
    read_predicted,
)
from tests.speed.peers.table import Json, Seen, as_json, as_markdown, in_one_line, write
from tests.speed.peers.tasks import (
    MOST_ROWS,
    build_tasks,
    loader_of,
    verdict_among,
    verdict_tasks,
)

N_SPLITS = 5
FOLDER = Path(__file__).parents[1]
LISTS = {"build": build_tasks, "verdict": verdict_tasks}


class Request(NamedTuple):
    """What is run.

    Attributes:
        tasks: Names.
        peers: Public tools to fit; what others predicted before is judged too.
        splits: Of every real task into halves.
        most_rows: Of a world.
        threads: That a tool may use.
        again: Whether public tools are fitted anew.
        out: Where the tables are written, without suffix; None for nowhere.
        decided: Who decided what, of a look at the verdict.
        partial: Whether it is less than the whole of one list.
    """

    tasks: tuple[str, ...]
    peers: tuple[Peer, ...]
    splits: int
    most_rows: int
    threads: int
    again: bool
    out: Path | None
    decided: str
    partial: bool


def main(arguments: Sequence[str]) -> None:
    """Every task, split and tool; then the tables.

    Args:
        arguments: Of the command line.
    """
    request = _request(arguments)
    command = " ".join(["python -m tests.speed.peers", *arguments])
    apart = verdict_among(request.tasks)
    tables = _run(request, command) if not apart else _looked(request, apart, command)
    sys.stdout.write(as_markdown(tables))
    if request.out is not None:
        write(tables, request.out)


def _request(arguments: Sequence[str]) -> Request:
    parser = argparse.ArgumentParser(prog="python -m tests.speed.peers")
    tools = [p.tool for p in PEERS]
    parser.add_argument("--tasks", nargs="+", default=["build"])
    parser.add_argument("--peer", nargs="+", choices=tools, default=tools)
    parser.add_argument("--splits", type=int, default=N_SPLITS)
    parser.add_argument("--most-rows", type=int, default=MOST_ROWS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--cached", action="store_true", help="fit no public tool")
    parser.add_argument("--again", action="store_true", help="fit public tools anew")
    parser.add_argument("--out", type=Path, help="tables, without suffix")
    parser.add_argument("--decided", default="", help="who decided what: the verdict")
    asked = parser.parse_args(arguments)
    try:
        tasks = tuple(
            dict.fromkeys(
                task
                for name in asked.tasks
                for task in (LISTS[name]() if name in LISTS else (name,))
            )
        )
        for task in tasks:
            loader_of(task)
        apart = verdict_among(tasks)
    except (ValueError, RuntimeError) as error:
        parser.error(str(error))
    if apart and not asked.decided:
        parser.error(f"{', '.join(apart)}: of the verdict; say who decided: --decided")
    if apart and asked.most_rows != MOST_ROWS:
        parser.error("expected no --most-rows for the verdict: its worlds are fixed")
    whole = asked.peer == tools and (asked.splits, asked.most_rows) == (
        N_SPLITS, MOST_ROWS,
    )  # fmt: skip
    names = {"build": "peers", "verdict": "peers_verdict"}
    whole = whole and asked.tasks in (["build"], ["verdict"])
    if asked.out is None and whole:
        asked.out = FOLDER / names[asked.tasks[0]]
    fitted = () if asked.cached else asked.peer
    return Request(
        tasks, tuple(p for p in PEERS if p.tool in fitted), asked.splits,
        asked.most_rows, asked.threads, asked.again, asked.out, asked.decided,
        not whole,
    )  # fmt: skip


def _looked(request: Request, apart: Sequence[str], command: str) -> Json:
    """A run with verdict tasks, logged whatever comes of it."""
    tools = [*OURS, *(p.name for p in PEERS)]
    look = looks.Look(looks.commit_of(), apart, tools, request.decided)
    looks.append(looks.LOG, look, looks.BEGUN)
    try:
        tables = _run(request, command)
    except BaseException as error:
        looks.append(looks.LOG, look, f"broken off: {type(error).__name__}: {error}")
        raise
    looks.append(looks.LOG, look, in_one_line(tables))
    return tables


def _run(request: Request, command: str) -> Json:
    left_out: dict[str, str] = {}
    seen = (_seen(data, request) for data in _loaded(request, left_out))
    made_on = time.strftime("%Y-%m-%d", time.gmtime())
    return as_json(
        seen, command=command, made_on=made_on, left_out=left_out,
        partial=request.partial,
    )  # fmt: skip


def _loaded(request: Request, left_out: dict[str, str]) -> Iterator[DataSet]:
    """The tasks that can be run, one at a time; the others go into `left_out`."""
    for name in request.tasks:
        try:
            yield loader_of(name, most_rows=request.most_rows)()
        except (FileNotFoundError, TooFewAnswersError) as error:
            left_out[name] = str(error)
            _say(f"{name}: left out, {error}")


def _seen(data: DataSet, request: Request) -> Seen:
    """A task judged on every split; seconds are those of the first."""
    failed: dict[str, str] = {}
    for peer in request.peers:
        try:
            _fit(peer, data, request)
        except RuntimeError as error:
            failed[peer.name] = str(error).splitlines()[-1]
            _say(str(error))
    n_splits = _n_splits(data, request)
    verdicts: list[Verdict] = []
    seconds: dict[str, tuple[float, float, float]] = {}
    for seed in range(n_splits):
        splits = halves(data, seed)
        first, second = (dict(_files(split, failed)) for split in splits)
        files = {tool: (first[tool], second[tool]) for tool in first if tool in second}
        if not seconds:
            seconds = {tool: _seconds(pair) for tool, pair in files.items()}
        tools = {
            tool: (judged(splits[0], pair[0]), judged(splits[1], pair[1]))
            for tool, pair in files.items()
        }
        held = [~split.trained for split in splits]
        verdicts.append(verdict(tools, held, data.test.cluster))
        _say(f"{data.name}: split {seed + 1} of {n_splits} judged")
    return Seen(data, Standing(tuple(verdicts)), seconds, failed)


def _n_splits(data: DataSet, request: Request) -> int:
    """One where the truth judges: another world says more than another split."""
    return request.splits if data.truth is None else 1


def _files(split: Split, failed: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Every tool with the file of its prediction; ours predict where they have not."""
    learning = Learning(split)
    for name in rows_of(split.data):
        file = our_file(name, split)
        if not file.exists():
            _say(f"{split.data.name} {split.seed} {split.label}: {name}")
            try:
                predict_by_ours(name, learning)
            except Exception as error:
                if name == NO_TARGETING:
                    raise
                # whatever breaks is a figure of that row, not the end of the run
                failed[name] = f"{type(error).__name__}: {error}"
                _say(f"{split.data.name}: {name} failed, {failed[name]}")
                continue
        yield name, file
    for peer in PEERS:
        if (file := peer_file(peer, split)).exists():
            yield peer.name, file


def _fit(peer: Peer, data: DataSet, request: Request) -> None:
    """A public tool on all splits that it has time for."""
    n_splits = min(_n_splits(data, request), peer.splits_of(data))
    splits = [split for seed in range(n_splits) for split in halves(data, seed)]
    if not splits:
        return
    if request.again:
        for split in splits:
            peer_file(peer, split).unlink(missing_ok=True)
    _say(f"{data.name}: {peer.name}")
    predict_by_peer(peer, splits, threads=request.threads)


def _seconds(files: tuple[Path, Path]) -> tuple[float, float, float]:
    """Fit, predict and threads, the mean of both halves."""
    rows = [read_predicted(file).seconds for file in files]
    fit_s, predict_s, threads = (
        sum(column) / len(rows) for column in zip(*rows, strict=True)
    )
    return fit_s, predict_s, threads


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
