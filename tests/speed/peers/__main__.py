"""Our learners beside the public ones on the same data: `make bench-peers`.

    python -m tests.speed.peers [--data NAME ...] [--peer NAME ...] [--splits N]
                                [--cached] [--threads N] [--again]

A run of everything writes tests/speed/peers.json and tests/speed/peers.md; a run of a
part prints its tables only. What a tool predicted is kept in .data/peers/cache, so that
a repeat fits only what has changed.
"""

import os

# before LightGBM is imported: threads that wait without sleeping starve each other
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.speed.peers.data_sets import LOADERS, DataSet, load
from tests.speed.peers.judge import Standing, verdict
from tests.speed.peers.judged import judged
from tests.speed.peers.ours import Learning, our_file, predict_by_ours, rows_of
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
from tests.speed.peers.table import Seen, as_json, as_markdown, write

N_SPLITS = 5
TABLE = Path(__file__).parent


def main() -> None:
    """Every data set, split and tool; then the table."""
    asked = _asked()
    seen = [_seen(data, asked) for data in _loaded(asked.data)]
    command = " ".join(["python -m tests.speed.peers", *sys.argv[1:]])
    made_on = time.strftime("%Y-%m-%d", time.gmtime())
    told = as_json(seen, command=command, made_on=made_on)
    sys.stdout.write(as_markdown(told))
    if asked.whole and len(seen) == len(LOADERS):
        write(told, TABLE)


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.speed.peers")
    parser.add_argument("--data", nargs="+", choices=list(LOADERS))
    parser.add_argument("--peer", nargs="+", choices=[p.tool for p in PEERS])
    parser.add_argument("--splits", type=int, default=N_SPLITS)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--cached", action="store_true", help="fit no public tool")
    parser.add_argument("--again", action="store_true", help="fit public tools anew")
    asked = parser.parse_args()
    asked.whole = not (asked.data or asked.peer) and asked.splits == N_SPLITS
    asked.data = asked.data or list(LOADERS)
    return asked


def _loaded(names: list[str]) -> Iterator[DataSet]:
    """The data sets that are there, one at a time."""
    for name in names:
        try:
            yield load(name)
        except FileNotFoundError as error:
            _say(f"{name}: left out, {error}")


def _seen(data: DataSet, asked: argparse.Namespace) -> Seen:
    """A data set judged on every split; seconds are those of the first."""
    for peer in PEERS:
        if not asked.cached:
            _fit(peer, data, asked)
    verdicts, seconds = [], {}
    for seed in range(asked.splits):
        splits = halves(data, seed)
        files = _on_both([dict(_files(split)) for split in splits])
        if not seconds:
            seconds = {tool: _seconds(pair) for tool, pair in files.items()}
        tools = {
            tool: tuple(judged(s, f) for s, f in zip(splits, pair, strict=True))
            for tool, pair in files.items()
        }
        held = [~split.trained for split in splits]
        verdicts.append(verdict(tools, held, data.test.cluster))
        _say(f"{data.name}: split {seed + 1} of {asked.splits} judged")
    return Seen(data, Standing(tuple(verdicts)), seconds)


def _on_both(files: list[dict[str, Path]]) -> dict[str, tuple[Path, ...]]:
    """Files of the tools that predicted both halves."""
    common = [tool for tool in files[0] if all(tool in half for half in files)]
    return {tool: tuple(half[tool] for half in files) for tool in common}


def _files(split: Split) -> Iterator[tuple[str, Path]]:
    """Every tool with the file of its prediction; ours predict where they have not."""
    learning = Learning(split)
    for name in rows_of(split.data):
        file = our_file(name, split)
        if not file.exists():
            _say(f"{split.data.name} {split.seed} {split.label}: {name}")
            predict_by_ours(name, learning)
        yield name, file
    for peer in PEERS:
        if (file := peer_file(peer, split)).exists():
            yield peer.name, file


def _fit(peer: Peer, data: DataSet, asked: argparse.Namespace) -> None:
    """A public tool on all splits that it has time for."""
    if (asked.peer and peer.tool not in asked.peer) or data.name in peer.skips:
        return
    seeds = range(min(asked.splits, peer.n_splits or asked.splits))
    splits = [split for seed in seeds for split in halves(data, seed)]
    if asked.again:
        for split in splits:
            peer_file(peer, split).unlink(missing_ok=True)
    _say(f"{data.name}: {peer.name}")
    predict_by_peer(peer, splits, threads=asked.threads)


def _seconds(files: tuple[Path, ...]) -> tuple[float, float, float]:
    """Fit, predict and threads, the mean of both halves."""
    found = [read_predicted(file).seconds for file in files]
    fit_s, predict_s, threads = (
        sum(column) / len(found) for column in zip(*found, strict=True)
    )
    return fit_s, predict_s, threads


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
