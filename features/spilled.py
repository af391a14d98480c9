"""Large arrays in files without a name, so that they take no memory between uses.

An array of all voters by all arms is looked at block by block. Small ones stay in
memory; large ones are mapped from a file that goes with the process.
"""

import mmap
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import Any

import numpy as np
import numpy.typing as npt

SMALL_BYTES = 64 * 2**20
ROWS = 65_536
"""Rows that are looked at together."""


def blank(shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An array of zeros, in a file where it is large."""
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if n_bytes <= SMALL_BYTES:
        return np.zeros(shape, dtype)
    with TemporaryFile() as file:
        file.truncate(n_bytes)
        return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def let_go(*arrays: npt.NDArray[Any]) -> None:
    """Free the memory of arrays in files; what they hold stays."""
    for array in arrays:
        mapped = getattr(array, "_mmap", None)
        if isinstance(mapped, mmap.mmap):
            mapped.madvise(mmap.MADV_DONTNEED)


def row_blocks(n: int) -> Iterator[slice]:
    """Slices of `ROWS` rows, in order."""
    for start in range(0, n, ROWS):
        yield slice(start, min(start + ROWS, n))
