"""Storage of tuning trials: a journal file or a database that processes share.

A process can be killed at any moment: its lock ends with it, a half-written line is cut
off, and a trial whose process has died is distinguished from a running one.
"""

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

GRACE_S = 900.0
"""A trial on another machine that has not been heard of for this long is given up."""
CLAIM_S = 60.0
"""So long a trial may be without an owner: between being asked for and claimed."""


class KernelLock:
    """A lock that the kernel releases when its process dies, however it dies."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self._held: int | None = None

    def acquire(self) -> bool:
        """Wait for the lock, and cut off a line that a killed process left half."""
        self._held = os.open(f"{self._journal}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._held, fcntl.LOCK_EX)
        _cut_half_line(self._journal)
        return True

    def release(self) -> None:
        """Let the next one in."""
        if self._held is not None:
            os.close(self._held)
            self._held = None


def _cut_half_line(journal: Path) -> None:
    with journal.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def open_trials(where: str | None) -> BaseStorage:
    """The storage of trials.

    Args:
        where: A journal file, made with its folder where it is not there; the address
            of a database, such as `postgresql+psycopg://user@host/name`; None keeps
            the trials in memory.

    Raises:
        ValueError: If the database cannot be opened; its password is not shown.
    """
    if where is None:
        return InMemoryStorage()
    if "://" in where:
        return _database(where)
    journal = Path(where)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.touch()
    lock: Any = KernelLock(journal)
    return JournalStorage(JournalFileBackend(str(journal), lock))


def _database(address: str) -> RDBStorage:
    from sqlalchemy.exc import SQLAlchemyError

    options: dict[str, Any] = {"pool_pre_ping": True}
    if address.startswith("postgresql+psycopg:"):
        # a server without an encoding of its own would send bytes
        options["connect_args"] = {"client_encoding": "utf8"}
    tries = 3
    for left in reversed(range(tries)):
        try:
            return RDBStorage(address, engine_kwargs=options)
        except (SQLAlchemyError, ImportError) as failure:
            # of two processes that make the tables at once, one comes too late
            if not left or isinstance(failure, ImportError):
                without_password = (
                    f"{address.split('://')[0]}://…@{address.split('@')[-1]}"
                )
                raise ValueError(
                    f"tuning storage {without_password}: expected a database that can "
                    f"be opened, such as postgresql+psycopg://user@host/name; "
                    f"got {type(failure).__name__}"
                ) from failure
            time.sleep(0.5)
    raise AssertionError


@contextmanager
def trials_at(where: str | None) -> Iterator[BaseStorage]:
    """The storage of trials, its connections closed at the end; see `open_trials`."""
    storage = open_trials(where)
    try:
        yield storage
    finally:
        if isinstance(storage, RDBStorage):
            storage.remove_session()
            storage.engine.dispose()


# --- who works on a trial ---


def claim(trial: Trial) -> None:
    """Record which process works on a trial."""
    owner = [socket.gethostname(), os.getpid(), _started(os.getpid())]
    trial.set_user_attr("owner", owner)
    beat(trial)


def beat(trial: Trial) -> None:
    """Record that the work on a trial goes on."""
    trial.set_user_attr("heard_at", time.time())


def is_dead(trial: FrozenTrial, *, now: float) -> bool:
    """Whether the process of a running trial has died.

    Args:
        trial: Of any state.
        now: Seconds since 1970.
    """
    if trial.state != TrialState.RUNNING:
        return False
    owner, heard_at = trial.user_attrs.get("owner"), trial.user_attrs.get("heard_at")
    if owner is None or heard_at is None:
        claimed_at = trial.datetime_start
        return claimed_at is None or now - claimed_at.timestamp() > CLAIM_S
    host, process, started = owner
    if host == socket.gethostname():
        return bool(_started(process) != started)
    return bool(now - heard_at > GRACE_S)


def _started(process: int) -> str | None:
    """When a process started, in ticks: a number alone may have been given again."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return None
    state, *rest = stat.rpartition(")")[2].split()
    # killed, but not yet collected by its parent
    return None if state == "Z" else rest[18]


def give_up(study: optuna.Study, trial: FrozenTrial) -> bool:
    """Fail a dead trial; False where another process did so first."""
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, optuna.exceptions.UpdateFinishedTrialError):
        return False
    return True
