"""Array types, named once: what an annotation of an array means everywhere."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""Double-precision numbers."""
Floats32 = npt.NDArray[np.float32]
"""Single-precision numbers: features and wide scores."""
Ints = npt.NDArray[np.int64]
"""Whole numbers: codes, counts, positions."""
Bools = npt.NDArray[np.bool_]
"""Truth values, one an entry."""
Objects = npt.NDArray[np.object_]
"""Python objects: ids as text."""
Values = npt.NDArray[Any]
"""Texts or None as objects, numbers as float64, times as datetime64[us]."""
