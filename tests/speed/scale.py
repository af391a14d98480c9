"""A national file, stage by stage: processor seconds and peak memory by size.

`python -m tests.speed.scale FOLDER 1000000 10000000` draws electorates of these sizes
in FOLDER, ingests, scores and plans each by a model that was learnt once, from a
randomised test of 20,000 voters, every stage in a process of its own, and prints the
rows of `scale.md`. So what grows with the electorate is seen alone; nothing is linked.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from hustings.experiments.run import STAGES
from hustings.features.simulated.campaign import Sample, simulate
from tests.checkout import ROOT, environment

N_TESTED, N_DRAWN, N_MESSAGES = 20_000, 500_000, 8
"""Voters of the test; voters drawn at a time; messages, each by three channels."""
N_LEARNT = 200_000
"""Voters of the file from which the model is learnt."""
GROWING = ("ingest", "score", "plan")
_IDS = ("voter_id", "household_id")
_BY_VOTER = ("voters", "permissions")
_OF_TEST = ("deliveries", "responses")


class Measured(NamedTuple):
    """What one command took.

    Attributes:
        what: The command.
        cpu_s: Processor seconds, of the process and its children.
        wall_s: Seconds by the clock.
        peak_gb: Largest resident memory, GiB.
    """

    what: str
    cpu_s: float
    wall_s: float
    peak_gb: float


def draw_electorate(folder: Path, n_voters: int) -> None:
    """Raw tables of a campaign of `n_voters`, written part by part.

    Args:
        folder: Becomes `<table>.parquet` for each table.
        n_voters: A multiple of `N_DRAWN`, or fewer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers: dict[str, pq.ParquetWriter] = {}
    for part, start in enumerate(range(0, n_voters, N_DRAWN)):
        n = min(N_DRAWN, n_voters - start)
        sample = simulate(n_voters=n, seed=part + 1, n_messages=N_MESSAGES)
        for name, frame in _of_part(sample, part).items():
            table = pa.Table.from_pandas(frame, preserve_index=False)
            if name not in writers:
                path = folder / f"{name}.parquet"
                writers[name] = pq.ParquetWriter(path, table.schema)
            writers[name].write_table(table.cast(writers[name].schema))
    for writer in writers.values():
        writer.close()
    costs = sample.tables["costs"]
    scaled = costs["capacity_per_day"] * (n_voters / n)
    costs.assign(capacity_per_day=scaled).to_parquet(folder / "costs.parquet")


def _of_part(sample: Sample, part: int) -> dict[str, pd.DataFrame]:
    """Tables of one part: ids of its own; the test in the first alone."""
    tables = {name: sample.tables[name] for name in _BY_VOTER}
    if part == 0:
        tested = sample.tables["voters"]["voter_id"].head(N_TESTED)
        for name in _OF_TEST:
            frame = sample.tables[name]
            tables[name] = frame[frame["voter_id"].isin(tested)]
        tables |= {name: sample.tables[name] for name in ("messages", "designs")}
    return {
        name: frame.assign(**{c: frame[c] + f"-{part:03d}" for c in _IDS if c in frame})
        for name, frame in tables.items()
    }


def campaign_of(folder: Path, raw: Path, n_voters: int) -> Path:
    """The declaration of a campaign over raw tables; its folder."""
    text = (ROOT / "experiments" / "sample" / "campaign.toml").read_text()
    before, _, after = text.partition("[simulate]")
    _, _, after = after.partition("[outcome]")
    text = before + "[outcome]" + after
    for name in ("link", "link.voters", "tables.reactions", "tables.reaction_counts"):
        start = text.index(f"[{name}]")
        end = text.find("\n[", start)
        text = text[:start] + text[end + 1 :]
    text = text.replace('"raw:', f'"{raw}/').replace(
        'name = "sample"', 'name = "scale"'
    )
    text = text.replace('    "reacted__*",     # what linked voters reacted to\n', "")
    text = text.replace(', "reacted__health_care"', "")
    text = text.replace(f'map = "{raw}/counties.topojson"\n', "")
    text = text.replace(
        "capacity_per_day = 20_000", f"capacity_per_day = {n_voters // 10}"
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "campaign.toml").write_text(text)
    return folder


def measured(what: str, arguments: list[str]) -> Measured:
    """Run `hustings` in a process of its own.

    Raises:
        RuntimeError: If it fails.
    """
    code = "from hustings.experiments.cli import app; app()"
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, env=environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{what}: {output[-3000:]}")
    return Measured(
        what, used.ru_utime + used.ru_stime, time.perf_counter() - started,
        used.ru_maxrss / 2**20,
    )  # fmt: skip


def stages(folder: Path, n_voters: int) -> list[Measured]:
    """Every stage that grows with an electorate of `n_voters`."""
    if not (folder / "mlflow").exists():
        _run(folder, N_LEARNT, STAGES)
    return _run(folder, n_voters, GROWING)


def _run(folder: Path, n_voters: int, named: Sequence[str]) -> list[Measured]:
    raw = folder / "raw" / f"{n_voters}"
    if not (raw / "costs.parquet").exists():
        draw_electorate(raw, n_voters)
    campaign = campaign_of(folder / f"{n_voters}" / "scale", raw, n_voters)
    where = [
        "--campaign", str(campaign), "--data", str(folder / f"{n_voters}" / "data"),
        "--store", str(folder / "mlflow"),
    ]  # fmt: skip
    rows = []
    for stage in named:
        rows.append(measured(stage, [stage, *where]))
        _say(n_voters, rows[-1])
    return rows


def _say(n_voters: int, row: Measured) -> None:
    sys.stdout.write(
        f"| {n_voters:,} | {row.what} | {row.cpu_s:.1f} | "
        f"{row.cpu_s / n_voters * 1e6:.1f} | {row.wall_s:.0f} | {row.peak_gb:.2f} |\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    for size in sys.argv[2:]:
        stages(Path(sys.argv[1]), int(float(size)))
