"""What it costs to know the persons of a voter file again, a million voters.

`pytest tests/speed/test_persons.py -q -s -m speed` prints the figures of 1, 5 and 10
million voters: of a campaign's first file, of a second one in which 1 % are new, 1 %
are gone and 1 % have moved, and of the second file once more. HUSTINGS_PERSONS_M=50
asks for other millions. Every file is read in a process of its own.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from tests.checkout import environment

pytestmark = pytest.mark.speed

MILLIONS = [int(m) for m in os.environ.get("HUSTINGS_PERSONS_M", "1,5,10").split(",")]
MOST_CPU_S, MOST_GB = 4.0, 2.5
"""A million voters, changes and persons together; in all."""
FILE = """
import json, os, resource, sys
from pathlib import Path
from hustings.experiments.stages.persons import electorate_changes, known_persons
home, voters = map(Path, sys.argv[1:3])

def used_s():
    times = os.times()
    return times.user + times.system

persons, laps = known_persons(home), [used_s()]
former = persons.former(voters, {})
laps.append(used_s())
changes = electorate_changes(home, voters, former)
laps.append(used_s())
persons.remember(voters, former, observed_on=sys.argv[3])
laps.append(used_s())
seconds = [after - before for before, after in zip(laps, laps[1:])]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
print(json.dumps([*seconds, peak, changes, len(former)]))
"""


def voter_files(folder: Path, millions: int) -> tuple[Path, Path]:
    """A file of invented voters, 32 columns, and the one of a week later."""
    votes = [
        f"CASE hash(i, {k}) % 3 WHEN 0 THEN 1.0 WHEN 1 THEN 0.0 END "
        f"AS voted_{2000 + k}1105_general"
        for k in range(12)
    ]
    scores = [f"hash(i, {100 + k}) % 10000 / 100.0 AS score_{k}" for k in range(10)]
    first, second = folder / "first.parquet", folder / "second.parquet"
    written = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 122880)"
    with duckdb.connect(config={"memory_limit": "2GB"}) as connection:
        connection.execute("SET preserve_insertion_order = false")
        connection.execute(f"""
            COPY (SELECT 'V' || lpad(i::VARCHAR, 9, '0') AS voter_id,
                'H' || lpad((i // 2)::VARCHAR, 9, '0') AS household_id,
                1930.0 + hash(i, 50) % 75 AS birth_year, 'NC' AS state,
                CASE hash(i, 51) % 2 WHEN 0 THEN 'F' ELSE 'M' END AS sex,
                '37' || lpad((hash(i // 2, 52) % 200)::VARCHAR, 3, '0') AS county_fips,
                'P' || hash(i // 2, 53) % 2700 AS precinct,
                (27000 + hash(i // 2, 54) % 2000)::VARCHAR AS postcode,
                (DATE '1970-01-01' + (hash(i, 55) % 20000)::INT)::TIMESTAMP
                    AS registered_on,
                CASE hash(i, 56) % 3 WHEN 0 THEN 'DEM' WHEN 1 THEN 'REP' END AS party,
                {", ".join([*votes, *scores])}
            FROM range({millions * 1_000_000}) t(i)) TO '{first}' {written}""")
        connection.execute(f"""
            COPY (SELECT * REPLACE (CASE hash(voter_id, 1) % 100
                    WHEN 0 THEN household_id || 'm' ELSE household_id END
                    AS household_id)
                FROM '{first}' WHERE hash(voter_id, 2) % 100 <> 0
                UNION ALL SELECT * REPLACE ('N' || voter_id AS voter_id,
                    birth_year + 80 AS birth_year)
                FROM '{first}' WHERE hash(voter_id, 3) % 100 = 0)
            TO '{second}' {written}""")
    return first, second


@pytest.mark.parametrize("millions", MILLIONS)
def test_persons_of_a_voter_file_cost_few_seconds_and_no_more_memory_than_is_set(
    millions: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = voter_files(tmp_path, millions)
    home = tmp_path / "home"
    home.mkdir()
    for name, file, day in (
        ("first", first, "2026-03-01"), ("second", second, "2026-03-08"),
        ("again", second, "2026-03-08"),
    ):  # fmt: skip
        done = subprocess.run(
            [sys.executable, "-c", FILE, str(home), str(file), day],
            capture_output=True, text=True, check=True, env=environment(),
        )  # fmt: skip
        *seconds, peak_gb, changes, n_former = json.loads(done.stdout)
        renamed, counted, remembered = (s / millions for s in seconds)
        with capsys.disabled():
            sys.stdout.write(
                f"{millions} million voters, {name} file: CPU seconds a million: "
                f"former ids {renamed:.2f}, changes {counted:.2f}, persons, keys and "
                f"snapshot {remembered:.2f}; peak {peak_gb:.2f} GB; {n_former} former "
                f"ids; {changes}\n"
            )
        assert counted + remembered <= MOST_CPU_S
        assert peak_gb < MOST_GB
        if name == "second":
            assert all(0.009 < changes[k] / 1e6 / millions < 0.011
                for k in ("new", "gone", "moved"))  # fmt: skip
