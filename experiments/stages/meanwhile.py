"""Work that another process does meanwhile, where there is enough of it to pay."""

import multiprocessing
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import hustings

Result = TypeVar("Result")

WORTH_A_PROCESS = 20_000
"""With fewer voters the work is done sooner than a process has started."""


class Helper(NamedTuple):
    """Where work that can be done meanwhile is done.

    Attributes:
        pool: Another process; None where this one does the work at once.
    """

    pool: Executor | None

    @property
    def helps(self) -> bool:
        """Whether another process does the work."""
        return self.pool is not None

    def submit(
        self, work: Callable[..., Result], *args: Any, **kwargs: Any
    ) -> "Future[Result]":
        """Have the work done: a function of a module, with what it takes."""
        if self.pool is not None:
            return self.pool.submit(work, *args, **kwargs)
        future: Future[Result] = Future()
        future.set_result(work(*args, **kwargs))
        return future


@contextmanager
def meanwhile(n_workers: int, n_voters: int) -> Iterator[Helper]:
    """Another process for some of the work, where it pays.

    Args:
        n_workers: Processes in all.
        n_voters: How many the work is about.
    """
    if n_workers < 2 or n_voters < WORTH_A_PROCESS:
        yield Helper(None)
        return
    # spawned: a fork would inherit OpenMP's threads, which do not survive it
    context = multiprocessing.get_context("spawn")
    with (
        _these_modules_first(),
        ProcessPoolExecutor(1, mp_context=context) as pool,
    ):
        yield Helper(pool)


@contextmanager
def _these_modules_first() -> Iterator[None]:
    """Let another process import the code that runs here.

    A model that was loaded puts the code that it was registered with first, and that
    has no experiments.
    """
    root = str(Path(hustings.__file__).parents[1])
    sys.path.insert(0, root)
    try:
        yield
    finally:
        sys.path.remove(root)
