"""Fifty million reactions and ten million voters on two cores: time, memory, disk.

A tenth, a third and the whole of the size, each in a process of its own, so that its
peak of memory is its own. The figures go to out_of_core.md; everything else is drawn
into a temporary folder and is gone afterwards.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.speed

ROOT = Path(__file__).parents[2]
N_REACTIONS = int(os.environ.get("HUSTINGS_LARGE", "50_000_000"))
N_VOTERS = N_REACTIONS // 5
SHARES = (0.1, 1.0, 1 / 3)
"""The whole before the third: who stops it early has the figure that counts."""
BYTES_A_REACTION = 400
"""On disk at most: raw, accepted and spilled."""
LIMIT_GB = 8.0

WORK = """
import json, resource, sys, time
from pathlib import Path
import duckdb
import pandas as pd
from hustings.features.derived import Derivation
from hustings.features.ingest import TableSource
from hustings.features.large import engine, features_large, ingest_large

home, n = Path(sys.argv[1]), int(sys.argv[2])
n_voters = n // 5
times = {}

def timed(name, work):
    started = time.perf_counter()
    found = work()
    times[name] = time.perf_counter() - started
    return found

STATED = {"source": "generated", "licence": "none", "permitted_use": "tests"}
voters = TableSource(path="voters.parquet", **STATED)
reactions = TableSource(path="reactions.parquet", **STATED)
messages = [f"m{i}" for i in range(20)]
with engine(home / "spill") as connection:
    said = timed("reactions", lambda: ingest_large(
        connection, reactions, "reactions", home / "reactions.parquet", home / "said",
        known_messages=messages))
    file = timed("voters", lambda: ingest_large(
        connection, voters, "voters", home / "voters.parquet", home / "file"))
    columns = tuple(connection.read_parquet(file.accepted).columns)
    asked = Derivation(("history", "household", "neighbours"), columns,
                       pd.Timestamp("2026-04-06"), ("D", "R", "I"))
    out = timed("features", lambda: features_large(
        connection, file.accepted, asked, home / "features.parquet",
        reactions=said.accepted, links=home / "links.parquet"))
used = resource.getrusage(resource.RUSAGE_SELF)
peak, cpu_s = used.ru_maxrss / 2**20, used.ru_utime + used.ru_stime
found = duckdb.sql(
    f"SELECT count(*), sum(reactions__good), count(precinct__turnout) FROM '{out}'"
).fetchone()
print("FOUND " + json.dumps({
    "times_s": times, "peak_gb": peak, "cpu_s": cpu_s, "features": found,
    "reactions": {k: said.report[k] for k in ("rows_in", "accepted", "quarantined")},
    "voters": {k: file.report[k] for k in ("rows_in", "accepted", "quarantined")},
    "reasons": said.report["reasons"] | file.report["reasons"]}))
"""

VOTERS = """
SELECT 'v' || i AS voter_id, 'h' || (i // 2) AS household_id,
    CASE WHEN hash(i, 1) % 500 = 0 THEN 430.0 ELSE 18.0 + hash(i, 2) % 70 END AS age,
    printf('%05d', 26000 + i // 2 % 83) AS county_fips,
    printf('%03d', hash(i // 2, 3) % 60) AS precinct,
    CASE hash(i, 4) % 3 WHEN 0 THEN 'D' WHEN 1 THEN 'R' ELSE 'I' END AS party,
    TIMESTAMP '1990-01-01' + to_days((hash(i, 5) % 12000)::INT) AS registered_on,
    (hash(i, 6) % 2)::DOUBLE AS voted_20221108_general,
    (hash(i, 7) % 2)::DOUBLE AS voted_20240806_primary,
    (hash(i, 8) % 2)::DOUBLE AS voted_20241105_general
FROM range({n_voters}) AS drawn(i)
"""
# one in 200 comes a second time, one in 400 of those otherwise; one in 300 has no kind
REACTIONS = """
SELECT 'e' || (i - (hash(i, 1) % 200 = 0)::INT) AS reaction_id,
    'm' || CASE WHEN hash(i, 2) % 400 = 0 THEN 99 ELSE hash(i // 2, 3) % 20 END
        AS message_id,
    'page' AS platform,
    CASE WHEN hash(i, 4) % 300 = 0 THEN NULL WHEN hash(i // 2, 5) % 3 = 0 THEN 'angry'
        ELSE 'like' END AS kind,
    TIMESTAMP '2026-01-01' + to_seconds((i // 2 % 10000000)::BIGINT) AS reacted_at,
    'p' || (hash(i // 2, 6) % ({n} // 4)) AS person
FROM range({n}) AS drawn(i)
"""
LINKS = """
SELECT 'p' || i AS person, 'v' || (i % {n_voters}) AS voter_id,
    0.9::DOUBLE AS probability
FROM range({n} // 20) AS drawn(i)
"""


def drawn(home: Path, n: int) -> None:
    """Raw files of n reactions and n / 5 voters, written row group by row group."""
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '2GB'; SET threads = 2")
        connection.execute(f"SET temp_directory = '{home}/drawn'")
        for name, rows in (
            ("voters", VOTERS), ("reactions", REACTIONS), ("links", LINKS)
        ):  # fmt: skip
            query = rows.format(n=n, n_voters=n // 5)
            path = home / f"{name}.parquet"
            connection.execute(f"COPY ({query}) TO '{path}' (COMPRESSION zstd)")


def worked(home: Path, n: int) -> dict:
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(home), str(n)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("FOUND ")[1])


def test_time_and_memory_of_fifty_million_reactions(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    free = shutil.disk_usage(tmp_path).free
    if free < N_REACTIONS * BYTES_A_REACTION:
        pytest.skip(f"needs {N_REACTIONS * BYTES_A_REACTION / 1e9:.0f} GB of free disk")
    lines: dict[int, str] = {}
    for share in SHARES:
        n, home = int(N_REACTIONS * share), tmp_path / "now"
        home.mkdir()
        try:
            drawn(home, n)
            found = worked(home, n)
        finally:
            shutil.rmtree(home)
        lines[n] = line(n, found)
        with capsys.disabled():
            print("\n  " + lines[n], found["reasons"])  # noqa: T201 - a benchmark
        for table in ("reactions", "voters"):
            told = found[table]
            assert told["rows_in"] == told["accepted"] + told["quarantined"]
        assert found["peak_gb"] < LIMIT_GB
        assert found["features"][0] == found["voters"]["accepted"]
        if N_REACTIONS >= 50_000_000:
            told = told_in_words([lines[n] for n in sorted(lines)])
            (Path(__file__).parent / "out_of_core.md").write_text(told)


def line(n: int, found: dict) -> str:
    times = found["times_s"]
    total = sum(times.values())
    cells = [
        f"{n:,}", f"{found['voters']['rows_in']:,}",
        f"{found['reactions']['quarantined'] + found['voters']['quarantined']:,}",
        *(f"{times[k]:.0f}" for k in ("reactions", "voters", "features")),
        f"{total:.0f}", f"{found['cpu_s']:.0f}", f"{found['cpu_s'] / n * 1e6:.1f}",
        f"{found['peak_gb']:.1f}",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def told_in_words(lines: list[str]) -> str:
    head = [
        "# Out of core", "",
        "Reactions and voters read, mapped, checked, quarantined and deduplicated, and "
        "the history, household and neighbour features of every voter with the linked "
        "reactions joined; two threads, 4 GB for DuckDB, the rest spilled to disk. The "
        "machine was shared with other work: seconds on the clock are an upper bound, "
        "seconds of the processors tell the cost.", "",
        "Made by `pytest -m speed tests/speed/test_out_of_core.py`.", "",
        "| reactions | voters | quarantined | ingest reactions, s | ingest voters, s | "
        "features, s | all, s | processors, s | µs a reaction | peak memory, GB |",
        "|--:" * 10 + "|",
    ]  # fmt: skip
    return "\n".join([*head, *lines]) + "\n"
