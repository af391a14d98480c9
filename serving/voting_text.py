"""Texts that say when, where or how to vote: held until a named person signs them."""

import hashlib
import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path

FILE = Path(__file__).parent / "rules" / "voting_words.toml"
KINDS = ("when", "where", "how")


@cache
def _patterns() -> dict[str, list[re.Pattern[str]]]:
    declared = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return {
        kind: [re.compile(words) for words in declared[kind]["words"]] for kind in KINDS
    }


def voting_words(text: str) -> dict[str, str]:
    """Words of a text about when, where or how to vote, by kind.

    A wide net: it stops what it does not understand, and a person decides.

    Args:
        text: Of a message.

    Returns:
        Kind → the first words that say so; empty for a text without any.

    >>> voting_words("Vote by text on Wednesday.")["how"]
    'vote by text'
    """
    plain = " ".join(unicodedata.normalize("NFKC", text).lower().split())
    first_words = {}
    for kind, patterns in _patterns().items():
        hits = (pattern.search(plain) for pattern in patterns)
        first = next((hit.group() for hit in hits if hit), None)
        if first is not None:
            first_words[kind] = first
    return first_words


def text_digest(text: str) -> str:
    """SHA-256 of a text: a signature is of these words and no others."""
    return hashlib.sha256(text.encode()).hexdigest()
