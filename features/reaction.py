"""What a reaction says: well, badly or neither, by one declared table.

A kind is what a platform calls it. Which kinds are good news is a matter of judgement,
so a campaign may declare its own; "haha" and "wow" go both ways and count as neither.
"""

from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

GOOD, BAD, NEUTRAL = "good", "bad", "neutral"
VALENCES = (GOOD, BAD, NEUTRAL)
STOP = "stop"
"""Asks to be left alone: the permission of the channel ends at once."""

VALENCE: Mapping[str, str] = MappingProxyType(
    {
        "like": GOOD,
        "love": GOOD,
        "share": GOOD,
        "click": GOOD,
        "wow": NEUTRAL,
        "haha": NEUTRAL,
        "comment": NEUTRAL,
        "reply": NEUTRAL,
        "sad": NEUTRAL,
        "angry": BAD,
        "unsubscribe": BAD,
        STOP: BAD,
    }
)
"""Kind → good, bad or neutral."""


def valence(kind: pd.Series, declared: Mapping[str, str] | None = None) -> pd.Series:
    """Good, bad or neutral for every reaction.

    Args:
        kind: Kinds as the platform names them; capitals do not matter.
        declared: The campaign's own table, over `VALENCE`.

    Returns:
        One of `VALENCES`; a kind that no table names is neutral.

    Raises:
        ValueError: If a declared valence is none.

    >>> valence(pd.Series(["Love", "angry", "poke"])).tolist()
    ['good', 'bad', 'neutral']
    """
    wrong = sorted(set((declared or {}).values()) - set(VALENCES))
    if wrong:
        raise ValueError(f"expected one of {', '.join(VALENCES)}, got {wrong[0]!r}")
    table = {**VALENCE, **(declared or {})}
    found: pd.Series = kind.str.lower().map(table).fillna(NEUTRAL)
    return found
