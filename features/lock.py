"""Locks on files, which the system releases when their process ends.

    with locked(home / ".lock", holder="hustings run, process 7"):
        ...

Whoever comes second waits, or is refused at once with the name of the holder. A lock is
taken once by a thread, however often its functions ask for it.
"""

import fcntl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_HELD: dict[tuple[Path, int], int] = {}
"""Locks of this process by thread, and how many of its blocks hold each."""


class LockedError(ValueError):
    """Another process holds the lock; the message says which and since when."""


@contextmanager
def locked(path: Path, *, wait: bool = False, holder: str = "") -> Iterator[None]:
    """Hold a lock while the block runs.

    Args:
        path: File of the lock; its folder must exist.
        wait: Whether to wait for its holder.
        holder: Written into the file: what others read while it is held.

    Raises:
        LockedError: If another process holds it, and nobody waits.
    """
    place = (path.resolve(), threading.get_ident())
    if place in _HELD:
        _HELD[place] += 1
        try:
            yield
        finally:
            _HELD[place] -= 1
        return
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise LockedError(_refusal(path)) from None
        file.truncate(0)
        file.write(holder)
        file.flush()
        _HELD[place] = 1
        try:
            yield
        finally:
            del _HELD[place]
            file.truncate(0)


def holder_since(path: Path) -> int | None:
    """When a lock was taken that was not given back, by a holder at work or killed.

    Args:
        path: File of the lock.

    Returns:
        By the file system's clock, as `st_mtime_ns` has it; None where it was given
        back.
    """
    if not path.exists() or not path.read_text(encoding="utf-8"):
        return None
    return path.stat().st_mtime_ns


def _refusal(path: Path) -> str:
    """Holder of a lock, as its file says; it is empty for an instant at first."""
    holder = path.read_text(encoding="utf-8").strip() or "another process"
    return f"{path.parent}: expected to be alone, {holder} is at work; nothing was done"
