"""Folds that never split the coarsest unit, the same for a unit wherever it is seen."""

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints, Objects

FEW_UNITS = 64
"""Of fewer, none is looked for twice."""


def unit_uniforms(unit_id: Sequence[str] | Objects, *, salt: str) -> Floats:
    """A number in [0, 1) for every unit, fixed by its id and the salt alone.

    The same unit gets the same number on another day, in another file and behind the
    endpoint; so a holdout stays a holdout, and a training voter keeps its fold.

    Args:
        unit_id: Shape (n,).
        salt: Separates uses (and campaigns) from one another.
    """
    if len(unit_id) <= FEW_UNITS:
        return _drawn(unit_id, salt)
    codes, units = pd.factorize(np.asarray(unit_id, dtype=object))
    return _drawn(units, salt)[codes]


def _drawn(units: Iterable[object], salt: str) -> Floats:
    key = hashlib.blake2b(salt.encode(), digest_size=16).digest()
    drawn = [
        int.from_bytes(
            hashlib.blake2b(str(u).encode(), digest_size=8, key=key).digest(), "big"
        )
        for u in units
    ]
    # the top 53 bits: a double holds them exactly, so 1.0 is never reached
    return np.array([d >> 11 for d in drawn], dtype=np.float64) / 2**53


def unit_folds(unit_id: Sequence[str] | Objects, n_folds: int, *, salt: str) -> Ints:
    """The fold of every voter; one unit, one fold.

    Args:
        unit_id: Coarsest unit of each voter, shape (n_voters,): neighbours leak
            through the address, so a household or cluster stays together.
        n_folds: How many folds.
        salt: Seed and purpose; two salts give independent folds.

    Returns:
        Fold in 0..n_folds - 1, shape (n_voters,).
    """
    return (unit_uniforms(unit_id, salt=salt) * n_folds).astype(np.int64)
