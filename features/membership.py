"""Where ids are among others, by Arrow: no id becomes a Python string for it."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from hustings.features.arrays import Bools, Ints


def among(ids: pd.Series, listed: Iterable[str]) -> Bools:
    """Whether each id is one of those listed, shape (n,); a missing id never is.

    `Series.isin` turns every listed id into a Python string, which takes longer than
    all else that is asked of a voter.

    Args:
        ids: Texts, shape (n,).
        listed: Texts, in a Series or any other collection.

    >>> among(pd.Series(["a", "b", None]), ["b", "c"]).tolist()
    [False, True, False]
    """
    inside = pc.is_in(_texts(ids), value_set=_texts(listed), skip_nulls=True)
    return np.asarray(inside, dtype=bool)


def positions(ids: pd.Series, listed: pd.Series) -> Ints:
    """Place of each id among those listed, the first of several; -1 for none, (n,).

    Args:
        ids: Texts, shape (n,).
        listed: Texts.

    >>> positions(pd.Series(["b", "x"]), pd.Series(["a", "b"])).tolist()
    [1, -1]
    """
    place = pc.index_in(_texts(ids), value_set=_texts(listed), skip_nulls=True)
    place_or_none: Ints = (
        place.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    return place_or_none


def _texts(values: Iterable[str]) -> pa.Array:
    given = values if isinstance(values, pd.Series) else pd.Series(list(values))
    array = pa.array(given, from_pandas=True)
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = array.dictionary_decode()
    if len(array) == 0:
        return pa.array([], pa.large_string())
    return array.cast(pa.large_string())
