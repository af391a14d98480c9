"""Past decisions and committed money of a campaign's plans, read by the endpoint.

A bundle lies in `<home>/serving`; next to it lie the campaign's plans. Their ledger
says which of them bind, and every step of a plan writes what it says to
`plans/binding.json`: no ids, only names of plans, states and money. Assignments are
read from the plans' own folders. What changed on disk is read anew at the next request.
"""

import json
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from hustings.features.arrays import Bools, Floats
from hustings.features.persons.identity import ids_of_persons, person_of_each_id
from hustings.features.tables import UNDECIDED

SERVING = "serving"
"""Folder of the bundle in a campaign's folder."""
PLANS = "plans"
BINDING = f"{PLANS}/binding.json"
RESULTS = "results"
_IDENTITY = "identity.parquet"
_CLOSED = ("withdrawn", "unreachable")
"""Tables of results whose voters a channel does not reach any more."""
_SETTLED_AFTER_NS = 10_000_000_000
"""A folder that changed so lately may change again and bear the same time."""
_ASSIGNED = [
    "voter_id", "experiment_id", "block", "role", "message_id", "channel",
    "propensity", "arm_propensity", "predicted_lift", "model_version",
]  # fmt: skip


class PastDecision(NamedTuple):
    """Decision of a plan about a voter.

    Attributes:
        plan_id: The plan.
        experiment_id: Whose outcome it is about.
        role: plan, explore or holdout.
        message_id: What the voter is sent, or `control`.
        channel: By which channel, or `none`.
        propensity: Probability of that role and message.
        arm_propensity: Probability of that message, whatever the role.
        predicted_lift: Of what the plan alone would have sent.
        model_version: The model that predicted it.
        decided_on: Day of the contact, else the plan's first day.
        handed_over: Whether the contact was handed to those who deliver it.
        window_days: Days until the voter may be decided again; None for never.
    """

    plan_id: str
    experiment_id: str
    role: str
    message_id: str
    channel: str
    propensity: float
    arm_propensity: float
    predicted_lift: float
    model_version: str
    decided_on: pd.Timestamp
    handed_over: bool
    window_days: int | None


class _Levels(NamedTuple):
    """A column of few values.

    Attributes:
        code: Of every row, shape (n,).
        levels: By code.
    """

    code: npt.NDArray[np.int32]
    levels: list[Any]

    @classmethod
    def of(cls, column: pd.Series) -> Self:
        code, levels = pd.factorize(column, use_na_sentinel=False)
        return cls(code.astype(np.int32), list(levels))


@dataclass(frozen=True)
class PlannedRows:
    """Plans' assignments by person and day, n of them, 60 bytes each and the person.

    Attributes:
        persons: Sorted, length n.
        levels: Columns of few values, by the name in `PastDecision`.
        numbers: Columns of numbers, shape (n,).
        handed_over: Whether each contact was handed over, shape (n,).
    """

    persons: list[str] = field(default_factory=list)
    levels: Mapping[str, _Levels] = field(default_factory=dict)
    numbers: Mapping[str, Floats] = field(default_factory=dict)
    handed_over: Bools = field(default_factory=lambda: np.zeros(0, dtype=bool))

    @classmethod
    def of(cls, rows: pd.DataFrame) -> Self:
        """The rows of a table with a column `person`, in any order."""
        rows = rows.sort_values(["person", "decided_on"], kind="stable")
        numbers = {n: rows[n].to_numpy(dtype=np.float64) for n in _NUMBERS}
        coded = [
            name
            for name in PastDecision._fields
            if name not in (*_NUMBERS, "handed_over")
        ]
        return cls(
            rows["person"].tolist(),
            {name: _Levels.of(rows[name]) for name in coded},
            numbers,
            rows["handed_over"].to_numpy(dtype=bool),
        )

    def of_person(self, person: str) -> list[PastDecision]:
        """Decisions about a person, in the order of days."""
        start = bisect_left(self.persons, person)
        end = bisect_right(self.persons, person, lo=start)
        return [self._decision(k) for k in range(start, end)]

    def _decision(self, k: int) -> PastDecision:
        values = {name: of.levels[of.code[k]] for name, of in self.levels.items()}
        values |= {name: float(of[k]) for name, of in self.numbers.items()}
        window = int(values.pop("window_days"))
        return PastDecision(
            **values,
            handed_over=bool(self.handed_over[k]),
            window_days=None if window < 0 else window,
        )


_NUMBERS = ("propensity", "arm_propensity", "predicted_lift")


_State = tuple[int, int, int]
"""Inode, time of change in nanoseconds and size: by these a change is seen."""


@dataclass(frozen=True)
class _Signature:
    """State of all that a reading depends on.

    Attributes:
        read: Files that are read, and folders of results, whose files are only ever
            replaced whole: path → state, None where there is none.
        around: Folders that may get new ones, likewise.
        settled: Whether a change would be seen by these states.
    """

    read: Mapping[str, _State | None] = field(default_factory=dict)
    around: Mapping[str, _State | None] = field(default_factory=dict)
    settled: bool = False

    def holds(self) -> bool:
        """Whether nothing has changed since: a call for each path, and no other."""
        return self.settled and all(
            _state(path) == state for path, state in self._states
        )

    @cached_property
    def _states(self) -> list[tuple[str, _State | None]]:
        return [*self.around.items(), *self.read.items()]

    @classmethod
    def of(cls, home: Path, at: pd.Timestamp) -> Self:
        """The state of a campaign's folder.

        Args:
            home: The folder.
            at: Now, UTC without a zone.
        """
        plans, results = str(home / PLANS), str(home / RESULTS)
        # each folder before what lies in it: what comes meanwhile is seen the next time
        around = {path: _state(path) for path in (plans, results)}
        by_plan = _folders_in(results)
        around |= {path: _state(path) for path in by_plan}
        read = [str(home / BINDING), str(home / _IDENTITY)]
        read += [f"{plan}/assignments.parquet" for plan in _folders_in(plans)]
        read += [folder for of_plan in by_plan for folder in _folders_in(of_plan)]
        of_read = {path: _state(path) for path in read}
        states = [s for s in (*around.values(), *of_read.values()) if s is not None]
        last_ns = max((changed_ns for _, changed_ns, _ in states), default=0)
        return cls(of_read, around, last_ns + _SETTLED_AFTER_NS < at.value)


def _state(path: str) -> _State | None:
    try:
        stat = os.stat(path)  # noqa: PTH116 - asked of hundreds of paths a request
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _folders_in(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []


@dataclass(frozen=True)
class DecidedRecord:
    """Contents of the campaign's folder at one reading.

    Attributes:
        signature: Of the files that were read.
        person: The person behind each id.
        ids: All ids of persons who have had several.
        planned: The plans' assignments.
        committed: Money and contacts that binding plans have taken.
        closed_to: Voter → channel and since when, by what channels have reported.
    """

    signature: _Signature = field(default_factory=_Signature)
    person: Mapping[str, str] = field(default_factory=dict)
    ids: Mapping[str, frozenset[str]] = field(default_factory=dict)
    planned: PlannedRows = field(default_factory=PlannedRows)
    committed: tuple[Mapping[str, Any], ...] = ()
    closed_to: Mapping[str, Sequence[tuple[str, pd.Timestamp]]] = field(
        default_factory=dict
    )

    def of(self, voter_ids: Sequence[str]) -> dict[str, list[PastDecision]]:
        """Decisions about some voters, in the order of days; others are absent.

        Args:
            voter_ids: Present or former ids.
        """
        decisions = {
            voter: self.planned.of_person(self.person.get(voter, voter))
            for voter in voter_ids
        }
        return {voter: past for voter, past in decisions.items() if past}

    def also_known_as(self, voter_ids: Sequence[str]) -> dict[str, str]:
        """Other ids that the same persons have or had → the id that is asked about."""
        return {
            other: voter
            for voter in voter_ids
            for other in self.ids.get(self.person.get(voter, voter), ())
            if other != voter
        }

    def committed_usd(self) -> float:
        """Money that binding plans have taken."""
        return self._committed_usd

    @cached_property
    def _committed_usd(self) -> float:
        return float(sum(row["usd"] for row in self.committed))

    def contacts_on(self, day: pd.Timestamp) -> dict[str, int]:
        """Contacts that binding plans have on a day, by channel."""
        date, n = f"{day:%Y-%m-%d}", dict[str, int]()
        for row in self.committed:
            if row["send_on"] == date:
                n[row["channel"]] = n.get(row["channel"], 0) + int(row["n"])
        return n

    def closed(
        self, voter_ids: Sequence[str], day: pd.Timestamp
    ) -> dict[str, set[str]]:
        """Channel → which of some voters it does not reach any more by a day."""
        end, closed = day.normalize() + pd.Timedelta(days=1), dict[str, set[str]]()
        for voter in voter_ids:
            # a wish goes with the person, under whichever id it was reported
            theirs = self.ids.get(self.person.get(voter, ""), (voter,))
            for channel, since in chain.from_iterable(
                self.closed_to.get(one, ()) for one in theirs
            ):
                if not since >= end:
                    closed.setdefault(channel, set()).add(voter)
        return closed


class DecidedVoters:
    """The plans of a campaign that bind.

    Args:
        home: The campaign's folder.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._record = DecidedRecord()
        self._lock = threading.Lock()

    @classmethod
    def of_bundle(cls, bundle: Path) -> Self | None:
        """Plans of the campaign that a bundle lies in; None where it lies in none."""
        home = campaign_folder(bundle)
        return cls(home) if home is not None and (home / PLANS).is_dir() else None

    def present(self, at: pd.Timestamp) -> DecidedRecord:
        """What is decided now; files are read again only where they changed.

        Args:
            at: Now, UTC without a zone.
        """
        with self._lock:
            if not self._record.signature.holds():
                signature = _Signature.of(self.home, at)
                if signature.read == self._record.signature.read:
                    self._record = replace(self._record, signature=signature)
                else:
                    self._record = _read(self.home, signature)
            return self._record


def _read(home: Path, signature: _Signature) -> DecidedRecord:
    path, (person, ids) = home / BINDING, _persons(home)
    if not path.exists():
        return DecidedRecord(signature, person, ids, closed_to=_closed(home))
    binding = json.loads(path.read_text(encoding="utf-8"))
    parts = [_rows(home / PLANS / p["plan_id"], p) for p in binding["plans"]]
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
    planned = PlannedRows()
    if len(rows):
        persons = [person.get(v, v) for v in rows["voter_id"]]
        planned = PlannedRows.of(rows.assign(person=persons))
    return DecidedRecord(
        signature, person, ids, planned, tuple(binding["committed"]), _closed(home)
    )


def _rows(folder: Path, plan: Mapping[str, Any]) -> pd.DataFrame:
    """Voters whom a plan has decided."""
    rows = pd.read_parquet(folder / "assignments.parquet", columns=_ASSIGNED)
    rows = rows[rows["block"] != UNDECIDED]
    contacts = pd.read_parquet(folder / "plan.parquet", columns=["voter_id", "send_on"])
    send_on = contacts.set_index("voter_id")["send_on"].reindex(rows["voter_id"])
    handed = [
        pd.read_parquet(folder / name, columns=["voter_id"])["voter_id"]
        for name in plan["sent"]
    ]
    is_handed = rows["voter_id"].isin(pd.concat(handed) if handed else [])
    rows = rows.assign(
        plan_id=plan["plan_id"],
        decided_on=pd.to_datetime(send_on.set_axis(rows.index)).fillna(
            pd.Timestamp(plan["day"])
        ),
        handed_over=is_handed,
        window_days=-1 if plan["window_days"] is None else plan["window_days"],
    )
    return rows[is_handed] if plan["only_sent"] else rows


def _persons(home: Path) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """The person behind each id, present or former; all ids of who has had several."""
    path = home / _IDENTITY
    if not path.exists():
        return {}, {}
    columns = ["voter_id", "former_id", "person"]
    person = person_of_each_id(pd.read_parquet(path, columns=columns))
    return person, ids_of_persons(person)


def _reported(home: Path) -> list[Path]:
    return [
        path
        for name in _CLOSED
        for path in sorted(home.glob(f"{RESULTS}/*/*/{name}.parquet"))
    ]


def _closed(home: Path) -> dict[str, list[tuple[str, pd.Timestamp]]]:
    closed: dict[str, list[tuple[str, pd.Timestamp]]] = {}
    for path in _reported(home):
        frame = pd.read_parquet(path, columns=["voter_id", "channel", "since"])
        for voter, channel, since in frame.itertuples(index=False, name=None):
            closed.setdefault(voter, []).append((channel, since))
    return closed


def campaign_folder(bundle: Path) -> Path | None:
    """Folder of the campaign that a bundle lies in; None where it lies in none."""
    folder = bundle.resolve()
    return folder.parent if folder.name == SERVING else None
