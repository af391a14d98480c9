"""Bits of a campaign's databases that a disk alters: named, or without effect.

Flips of other files are in `tests/experiments/test_campaign_holds.py`; `make attack`
alters 400 bits of each kind. `kills.md` keeps the figures.
"""

import os
import random
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from hustings.experiments.plans.ledger import (
    LEDGER,
    LedgerError,
    noted_heads,
    open_ledger,
)
from hustings.experiments.stages.persons import known_persons, require_tombstones
from hustings.features.persons.keys import KEYS, KeysError
from tests.experiments.commands import Commands
from tests.experiments.test_campaign_holds import flipped
from tests.experiments.test_kill import Campaign, declared

pytestmark = pytest.mark.slow

N_FLIPS = 400 if "HUSTINGS_KILLS" in os.environ else 40


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A campaign with a day, of whose persons one is forgotten."""
    folder = tmp_path_factory.mktemp("flipped")
    (folder / "runs").mkdir()
    with Commands(str(folder / "said.txt")) as commands:
        where = declared(folder / "declared"), folder / "runs"
        campaign = Campaign(*where, commands)
        store = ("--store", str(folder / "mlflow"))
        for words in (
            ("ingest",),
            ("day", "--date", "2026-09-08", "--approve-by", "Ada Pell", "--export"),
            ("forget", "V0000001", "--yes", *store),
        ):
            assert commands.done(*campaign.words(*words)) == 0, campaign.said()
        yield campaign.home


def rows_of(path: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
        return [line for line in db.iterdump() if line.startswith("INSERT")]


def fault_of(home: Path) -> str:
    """What `hustings verify` would say of the campaign's databases."""
    try:
        # a day reads the same entries without verifying all of them
        open_ledger(home).of_kind("")
        verified = open_ledger(home).verify(noted_heads(home))
        if verified.fault:
            return verified.fault
        require_tombstones(home)
        known_persons(home).keys.check()
    except (LedgerError, KeysError) as refusal:
        return str(refusal)
    return ""


@pytest.mark.parametrize("name", [LEDGER, KEYS])
def test_a_flipped_bit_of_a_database_is_named_or_changes_no_row(
    home: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path, rng, n_named = home / name, random.Random(name), 0
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rows = rows_of(path)
    assert fault_of(home) == ""
    for _ in range(N_FLIPS):
        with flipped(path, rng):
            said = fault_of(home)
            # of the ledger, the entry
            is_named = name in said or "entry" in said
            assert is_named if said else rows_of(path) == rows, said
        n_named += said != ""
    assert fault_of(home) == ""
    with capsys.disabled():
        sys.stdout.write(f"\n| `{name}` | {N_FLIPS} | {n_named} named |")
    assert n_named > 0
