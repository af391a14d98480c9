"""Identities of persons, kept from one delivery of the voter file to the next.

In the campaign's folder: `identity.parquet` (voter id → person), `keys.db` (keys and
tombstones) and `snapshots/` (every delivery of the voter file).
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from hustings.experiments.plans import folder
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.record import present_id_of
from hustings.features.arrays import Bools, Objects
from hustings.features.asof import VoterFile
from hustings.features.atomic import ASIDE, write_parquet
from hustings.features.ingest import Persons, under_present_ids
from hustings.features.membership import among
from hustings.features.persons.identity import (
    append,
    extend,
    former_ids,
    holdout_units,
    ids_in,
    new_persons,
    nobody,
    present_ids,
)
from hustings.features.persons.keys import (
    KEYS,
    RESTORE,
    VOTER,
    Keyring,
    KeysError,
    Never,
    open_keys,
    restore_keys,
)
from hustings.features.persons.snapshot import KINDS, diff, listed, renamed_ids, take
from hustings.features.simulated.campaign import Sample
from hustings.serving.plan import held_out

IDENTITY, SNAPSHOTS = folder.IDENTITY, "snapshots"
_OF_PERSONS = ("truth", "links", "identities")
"""Frames of a simulated sample that speak of persons, apart from its tables."""


def read_identity(home: Path) -> pd.DataFrame:
    """The campaign's map from voter ids to persons; empty before its first file."""
    path = home / IDENTITY
    return pd.read_parquet(path) if path.exists() else nobody()


def on_file(home: Path, voter_ids: pd.Series) -> Bools:
    """Whether each id is of a voter of any file so far; all are before the first."""
    identity = read_identity(home)
    if identity.empty:
        return np.ones(len(voter_ids), dtype=np.bool_)
    return among(voter_ids, identity["voter_id"])


def write_identity(home: Path, identity: pd.DataFrame) -> None:
    """Write the campaign's map from voter ids to persons."""
    write_parquet(home / IDENTITY, identity)


@dataclass(frozen=True)
class KnownPersons:
    """Persons of a campaign, as known before it reads a voter file.

    Attributes:
        home: The campaign's folder.
        keys: Its keys and tombstones.
    """

    home: Path
    keys: Keyring

    def of_ingest(self) -> Persons:
        """Forgotten persons and renamed voter ids, in the form that `ingest` takes."""
        folder = self.home / SNAPSHOTS
        # of several files of a day the last one counts
        earlier = {date.fromisoformat(s.observed_on): s.path for s in listed(folder)}
        return Persons(self.keys.forgotten().rows, self.former, earlier)

    def former(self, voters: Path, declared: Mapping[str, str]) -> dict[str, str]:
        """Former id → present id: from earlier files, exact keys and declared merges.

        Args:
            voters: VOTERS of a new file, Parquet.
            declared: Former id → present id, from the table of merges.
        """
        snapshots = listed(self.home / SNAPSHOTS)
        present_id_of = former_ids(self.home / IDENTITY)
        if snapshots and not snapshots[-1].equals(voters):
            present_id_of |= renamed_ids(snapshots[-1].path, voters)
        # an id that is in the file is nobody's former one, unless the file says so
        there = ids_in(voters, present_id_of)
        present_id_of = {
            old: now for old, now in present_id_of.items() if old not in there
        }
        return present_ids(present_id_of | dict(declared))

    def remember(
        self, voters: Path, former: Mapping[str, str], *, observed_on: str
    ) -> str:
        """Keep a snapshot of the file, its new persons and a key for each.

        Args:
            voters: VOTERS, a Parquet file that nobody writes into.
            former: Former voter id → present one.
            observed_on: Day of the file.

        Returns:
            Name of the snapshot.
        """
        identity, since = self.home / IDENTITY, pd.Timestamp(observed_on)
        with TemporaryDirectory(suffix=ASIDE, dir=self.home) as aside:
            added = Path(aside) / IDENTITY
            if extend(identity, voters, former, since=since, into=added):
                # keys first: a person without one could not be named in the ledger
                self.keys.add(new_persons(added))
                append(identity, added)
        return take(self.home / SNAPSHOTS, voters, observed_on=observed_on).name

    def without_forgotten(self, sample: Sample) -> Sample:
        """Remove the persons who asked to be forgotten from a simulated campaign."""
        gone = self.keys.forgotten()
        if not gone.digests:
            return sample
        frames = {name: getattr(sample, name) for name in _OF_PERSONS}
        remaining = {name: frame[~gone.rows(frame)] for name, frame in frames.items()}
        tables = {name: t[~gone.rows(t)] for name, t in sample.tables.items()}
        return replace(sample, tables=tables, **remaining)

    def start_again(self) -> None:
        """Destroy all identities, for a voter file of another electorate."""
        identity = self.home / IDENTITY
        if identity.exists():
            self.keys.destroy(new_persons(identity))
        (self.home / IDENTITY).unlink(missing_ok=True)
        shutil.rmtree(self.home / SNAPSHOTS, ignore_errors=True)


def known_persons(home: Path) -> KnownPersons:
    """Persons of a campaign; its keys are made where there have never been any.

    Raises:
        KeysError: If the keys of a campaign that has persons are lost or damaged.
    """
    made_before = (home / IDENTITY).exists() or (home / SNAPSHOTS).exists()
    return KnownPersons(home, open_keys(home / KEYS, made_before=made_before))


def noted_tombstones(home: Path) -> tuple[int, str] | None:
    """How many tombstones the ledger has seen last, and their digest; None for none.

    Args:
        home: The campaign's folder.
    """
    entries = open_ledger(home).of_kind("forgotten")
    ends = [json.loads(entry.body).get("tombstones") for entry in entries]
    seen = [end for end in ends if end is not None]
    return (int(seen[-1][0]), str(seen[-1][1])) if seen else None


def require_tombstones(home: Path) -> int:
    """Hold the tombstones against what the ledger says of them.

    Args:
        home: The campaign's folder.

    Returns:
        How many there are.

    Raises:
        KeysError: If they are not those that the ledger has seen.
    """
    keys = known_persons(home).keys
    n_now, digest = keys.end()
    noted = noted_tombstones(home)
    if noted is None:
        return n_now
    n_then, digest_then = noted
    # a request that was cut off has set its tombstones and no entry yet
    is_as_noted = n_now >= n_then if keys.pending() else digest == digest_then
    if not is_as_noted:
        raise KeysError(
            f"{home / KEYS}: expected the {n_then} tombstones that the ledger has "
            f"seen, got {n_now} or others; {RESTORE}"
        )
    return n_now


def restore_persons(home: Path) -> tuple[int, int]:
    """Make lost or damaged keys anew from the copy of the tombstones.

    Persons get new keys: what the ledger wrote under the old ones names nobody.

    Args:
        home: The campaign's folder.

    Returns:
        Tombstones, and persons who got a new key.

    Raises:
        KeysError: If there is no copy, or it was altered.
    """
    keys = restore_keys(home / KEYS)
    persons = read_identity(home)["person"].unique().tolist()
    keys.add(persons)
    return require_tombstones(home), len(persons)


def voter_files(home: Path) -> list[VoterFile]:
    """Every voter file of a campaign, as it was read, the earliest first.

    Voters stand under their present ids. Of several files of one day the last counts.

    Args:
        home: The campaign's folder.
    """
    by_day = {s.observed_on: s.path for s in listed(home / SNAPSHOTS)}
    former = present_id_of(home)
    return [
        VoterFile(
            pd.Timestamp(day), under_present_ids(pd.read_parquet(by_day[day]), former)
        )
        for day in sorted(by_day)
    ]


def electorate_changes(
    home: Path, voters: Path, former: Mapping[str, str]
) -> dict[str, int]:
    """Voters by what changed since the file before; empty for a campaign's first file.

    Args:
        home: The campaign's folder; its last snapshot is of the file before.
        voters: VOTERS of the new file, Parquet.
        former: Former voter id → present one.
    """
    snapshots = listed(home / SNAPSHOTS)
    if not snapshots:
        return {}
    if snapshots[-1].equals(voters):
        return dict.fromkeys(KINDS, 0)
    return diff(snapshots[-1].path, voters, former, folder=home).counts()


def voter_keys(home: Path, voter_ids: pd.Series) -> dict[str, bytes]:
    """Key of the person behind each voter id; ids that are not on file have none.

    Args:
        home: The campaign's folder.
        voter_ids: Whose.
    """
    columns = ["voter_id", "person"]
    identity = read_identity(home)[columns]
    persons = identity[among(identity["voter_id"], voter_ids)]
    persons = persons.drop_duplicates("voter_id")
    person_ids = persons["person"].tolist()
    keys = known_persons(home).keys.keys_of(person_ids)
    pairs = zip(persons["voter_id"].tolist(), person_ids, strict=True)
    return {voter: keys[person] for voter, person in pairs if person in keys}


def never_contacted(home: Path, assigned: pd.DataFrame) -> Never:
    """Digests of the held-out and the forgotten, in the form that exports may carry.

    Args:
        home: The campaign's folder.
        assigned: ASSIGNMENTS.
    """
    keys = known_persons(home).keys
    held = assigned.loc[assigned["role"] == "holdout", "voter_id"]
    never = Never.of(keys.campaign_key, held)
    return replace(never, digests=never.digests | forgotten_voters(home).digests)


def forgotten_voters(home: Path) -> Never:
    """Digests of the forgotten alone, of whom nothing may be kept anywhere."""
    keys = known_persons(home).keys
    gone = keys.forgotten(kind=VOTER).digests
    return replace(Never.of(keys.campaign_key, []), digests=gone)


def held_voters(
    home: Path,
    voters: pd.DataFrame,
    unit_id: Objects,
    *,
    by_household: bool,
    salt: str,
    share: float,
) -> Bools:
    """Whether each voter is held out, by the unit the person was first seen in.

    Args:
        home: The campaign's folder.
        voters: VOTERS.
        unit_id: Present household or voter id of each, used for persons without a
            recorded unit, shape (n_voters,).
        by_household: Whether households are held out, or voters.
        salt: The campaign's salt.
        share: Share of all units that is held out.

    Returns:
        Shape (n_voters,).
    """
    units = holdout_units(read_identity(home), voters, by_household=by_household)
    present_units = pd.DataFrame({"voter_id": voters["voter_id"], "unit": unit_id})
    unknown = present_units[~among(present_units["voter_id"], units["voter_id"])]
    units = pd.concat([units, unknown], ignore_index=True)
    held = held_out(units["unit"].to_numpy(dtype=object), salt=salt, share=share)
    return among(voters["voter_id"], units.loc[held, "voter_id"])
