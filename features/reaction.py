"""Valence of reactions (good, bad or neutral) by one declared table, and opt-outs.

A kind is the platform's name for a reaction. Which kinds are good news is a matter
of judgement, so a campaign may declare its own; "haha" and "wow" go both ways and count
as neutral.
"""

import re
from collections.abc import Mapping
from types import MappingProxyType

import pandas as pd

GOOD, BAD, NEUTRAL = "good", "bad", "neutral"
VALENCES = (GOOD, BAD, NEUTRAL)
STOP = "stop"
"""Asks to be left alone: the permission of the channel ends at once."""
STOP_KINDS = frozenset(
    {STOP, "stopall", "unsubscribe", "unsubscribed", "opt-out", "opt_out", "optout"}
)
"""What platforms call it."""
STOP_WORDS = frozenset(
    {"stop", "stopall", "unsubscribe", "cancel", "end", "quit", "optout", "revoke"}
)
"""What a reply says that asks for it, without spaces and signs: the words that United
States law takes for a revocation (47 CFR 64.1200(a)(10)) and carriers' STOPALL."""
_SIGNS = re.compile(r"[\W_]+")

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
        **dict.fromkeys(sorted(STOP_KINDS), BAD),
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
    valences: pd.Series = kind.str.lower().map(table).fillna(NEUTRAL)
    return valences


def is_stop(kind: str, text: str | None = None) -> bool:
    """Whether a reaction asks to be left alone: by its kind, or a reply by its text.

    Args:
        kind: As the platform names it; capitals do not matter.
        text: Of a reply.

    >>> is_stop("Opt-Out"), is_stop("reply", "Stop!"), is_stop("reply", "Don't stop")
    (True, True, False)
    """
    normalised_kind = kind.strip().lower()
    if normalised_kind != "reply":
        return normalised_kind in STOP_KINDS
    return _SIGNS.sub("", text or "").lower() in STOP_WORDS
