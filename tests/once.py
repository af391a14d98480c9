"""What is costly to make and is only read: made once for all workers and all runs.

A folder `.pytest_cache/once/<digest>/<name>` holds it; the digest is that of the
day and of the sources of the package and of the story, so that no code meets what an
older one made. A lock lets one worker make it while the others wait. The folder's
path is final from the start, because MLflow's store holds absolute paths: the file
`<name>.complete` tells a whole folder from one that was cut off.
"""

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

from tests.checkout import ROOT

CACHE = ROOT / ".pytest_cache" / "once"
SOURCES = ("features", "training", "serving", "experiments")
KEPT_DIGESTS = 2
"""So many states of the sources are kept; `make clean` removes all."""


def once(
    name: str, make: Callable[[Path], object], *, cache_folder: Path = CACHE
) -> Path:
    """The folder that `make` fills, made now or found.

    Args:
        name: Of the folder; one name, one function.
        make: Fills an empty folder that it is given.
        cache_folder: Holds the folders of all states of the sources.

    Returns:
        The folder. Nobody may write into it: see `unchanged`.
    """
    home = cache_folder / digest()
    home.mkdir(parents=True, exist_ok=True)
    _hold(home)
    folder, complete = home / name, home / f"{name}.complete"
    if complete.exists():
        return folder
    with locked(home / f"{name}.lock"):
        if not complete.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            complete.touch()
            remove_older(cache_folder, home)
    return folder


@cache
def digest() -> str:
    """Digest of the day, and of every source that has a say in what fixtures make."""
    # rules ask for the present day: what was made on another is made anew
    found = hashlib.sha256(time.strftime("%Y-%m-%d", time.gmtime()).encode())
    files = [
        path
        for part in SOURCES
        for path in (ROOT / part).rglob("*")
        if path.suffix in {".py", ".toml"}
    ]
    own = [ROOT / "tests" / "story.py", Path(__file__), ROOT / "constraints.txt"]
    for path in sorted([*files, *own]):
        found.update(str(path.relative_to(ROOT)).encode() + b"\0")
        found.update(path.read_bytes() + b"\0")
    return found.hexdigest()[:16]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; a process that dies lets go."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


_held: dict[Path, IO[str]] = {}


def _hold(home: Path) -> None:
    """Say until this process ends that it uses these folders."""
    if home not in _held:
        _held[home] = (home / "in_use").open("w")
        fcntl.flock(_held[home], fcntl.LOCK_SH)


def remove_older(cache_folder: Path, present: Path) -> None:
    """Remove what older sources made, but for the newest and what a process uses."""
    others = sorted(
        (p for p in cache_folder.iterdir() if p.is_dir() and p != present),
        key=lambda p: p.stat().st_mtime,
    )
    for home in others[: max(len(others) - (KEPT_DIGESTS - 1), 0)]:
        with (home / "in_use").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            shutil.rmtree(home)


@contextmanager
def unchanged(folder: Path) -> Iterator[None]:
    """Check that nobody wrote into a folder that many tests share.

    Raises:
        AssertionError: If a file came, went or was written to.
    """
    before = _state(folder)
    yield
    after = _state(folder)
    changed = sorted(
        name for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )  # fmt: skip
    assert not changed, f"tests wrote into what they share, {folder}: {changed[:10]}"


def _state(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(p.relative_to(folder)): (p.stat().st_size, p.stat().st_mtime_ns)
        for p in folder.rglob("*")
        if p.is_file()
    }
