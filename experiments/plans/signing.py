"""Signatures of texts about when, where or how to vote, as entries of the ledger."""

import json
from pathlib import Path

import pandas as pd

from hustings.experiments.plans.ledger import Head, open_ledger
from hustings.serving.voting_text import text_digest, voting_words

SIGNED = "message signed"


def sign_text(
    home: Path, messages: pd.DataFrame, message_id: str, *, by: str, at: pd.Timestamp
) -> Head:
    """A named person answers for the text of a message as it is now.

    Args:
        home: The campaign's folder, which holds the ledger.
        messages: MESSAGES.
        message_id: Which.
        by: Who signs.
        at: When.

    Raises:
        ValueError: If there is no such message, or nobody is named.
    """
    texts = messages.loc[messages["message_id"] == message_id, "text"]
    if texts.empty:
        raise ValueError(
            f"expected one of the messages {', '.join(messages['message_id'])}, got "
            f"{message_id!r}"
        )
    if not by.strip():
        raise ValueError("expected the name of who signs, got none")
    text = str(texts.iloc[0])
    body = {
        "message_id": message_id, "text_sha256": text_digest(text), "by": by.strip(),
        "speaks_of": sorted(voting_words(text)),
    }  # fmt: skip
    return open_ledger(home).append(SIGNED, body, at=at)


def signed_texts(home: Path) -> frozenset[str]:
    """Digests of all texts that somebody has signed."""
    entries = open_ledger(home).of_kind(SIGNED)
    return frozenset(json.loads(entry.body)["text_sha256"] for entry in entries)
