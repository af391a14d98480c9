"""Message features: the sentence embedding of the text and counts such as its length.

A message's row depends on no other message of the table, so a message that is written
later gets its row in the same columns.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Bools, Floats, Floats32

READABLE = (
    "log_words", "variety", "words_per_sentence", "letters_per_word", "questions",
    "numbers", "second_person", "on_topic", "names_sponsor",
)  # fmt: skip
"""Logarithm of the number of words; different words / √words (Guiraud 1954); words a
sentence; letters a word; questions a sentence; numbers and words like "you" a word;
cosine between text and stance (or issue, where no stance is stated); 1 where the text
names who pays."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_SENTENCE_END = re.compile(r"[.!?]+(?:\s+|$)")
_NUMBER = re.compile(r"\d[\d.,]*")
_SECOND_PERSON = frozenset({"you", "your", "yours", "yourself", "yourselves"})


@dataclass(frozen=True)
class MessageFeatures:
    """Messages as a matrix; axis 0 is the message.

    Attributes:
        ids: `message_id` of every row, length M.
        issue: Issue of every row, length M.
        names: Of the columns, length d: "embedding_000" ..., then `READABLE`.
        matrix: Shape (M, d).
    """

    ids: tuple[str, ...]
    issue: tuple[str, ...]
    names: tuple[str, ...]
    matrix: Floats32

    @property
    def embedding(self) -> Floats32:
        """The columns that hold the meaning, shape (M, 384)."""
        return self.matrix[:, self._meaning]

    @property
    def readable(self) -> Floats32:
        """The other columns."""
        return self.matrix[:, ~self._meaning]

    @property
    def _meaning(self) -> Bools:
        return np.array([name.startswith("embedding_") for name in self.names])

    @property
    def blocks(self) -> list[Floats]:
        """The meaning, and what a reader can count; shape (M, d_b) each."""
        return [self.embedding.astype(np.float64), self.readable.astype(np.float64)]

    def blocks_of(self, ids: Sequence[str]) -> list[Floats]:
        """The blocks for some messages, NaN for one without a row; (k, d_b) each."""
        place = {m: i for i, m in enumerate(self.ids)}
        row = np.array([place.get(m, -1) for m in ids], dtype=np.int64)
        return [np.where(row[:, None] < 0, np.nan, b[row]) for b in self.blocks]

    def of(self, ids: Sequence[str]) -> Self:
        """The rows of some messages, in their order.

        Raises:
            KeyError: If a message has no row.
        """
        place = {m: i for i, m in enumerate(self.ids)}
        lacking = [m for m in ids if m not in place]
        if lacking:
            raise KeyError(
                f"message {lacking[0]!r}: expected a row of features, got rows of "
                f"{len(place)} other messages; mend the messages table"
            )
        rows = [place[m] for m in ids]
        issue = tuple(self.issue[i] for i in rows)
        return type(self)(tuple(ids), issue, self.names, self.matrix[rows])


def message_features(messages: pd.DataFrame) -> MessageFeatures:
    """Features of every message, from its own row alone.

    Args:
        messages: MESSAGES table.

    Raises:
        ModuleNotFoundError: If the sentence model is not installed. There is no lesser
            stand-in: a model must mean the same columns wherever it is read.
    """
    # torch is slow to import, and who only predicts needs none of it
    from hustings.features.minilm import embed

    texts = messages["text"].tolist()
    sponsors = _column(messages, "sponsor", [""] * len(texts))
    issues = messages["issue"].tolist()
    topics = _column(messages, "stance", issues)
    distinct_topics = sorted(set(topics))
    meaning = embed([*texts, *distinct_topics])
    of_topic = meaning[len(texts) :][[distinct_topics.index(topic) for topic in topics]]
    meaning = meaning[: len(texts)]
    on_topic = (meaning * of_topic).sum(axis=1)
    counted = [
        [*counts(text), on, _names(text, sponsor)]
        for text, on, sponsor in zip(texts, on_topic, sponsors, strict=True)
    ]
    readable = np.array(counted, dtype=np.float32).reshape(-1, len(READABLE))
    columns = tuple(f"embedding_{i:03d}" for i in range(meaning.shape[1]))
    return MessageFeatures(
        tuple(messages["message_id"]),
        tuple(issues),
        columns + READABLE,
        np.column_stack([meaning, readable]),
    )


def _column(messages: pd.DataFrame, name: str, otherwise: list[str]) -> list[str]:
    if name not in messages:
        return otherwise
    values = messages[name].fillna("").tolist()
    return [v or o for v, o in zip(values, otherwise, strict=True)]


def counts(text: str) -> tuple[float, ...]:
    """Counts of a text that a reader could make: `READABLE` without the last two.

    >>> [round(x, 2) for x in counts("Will you vote? 1,000 neighbours vote.")]
    [1.79, 2.04, 3.0, 4.83, 0.5, 0.17, 0.17]
    """
    words = [w.lower() for w in _WORD.findall(text.replace(",", ""))]
    n = max(len(words), 1)
    n_sentences = max(len([s for s in _SENTENCE_END.split(text) if s.strip()]), 1)
    return (
        float(np.log(n)),
        len(set(words)) / n**0.5,
        n / n_sentences,
        sum(map(len, words)) / n,
        text.count("?") / n_sentences,
        len(_NUMBER.findall(text)) / n,
        sum(word in _SECOND_PERSON for word in words) / n,
    )


def _names(text: str, sponsor: str) -> float:
    return float(bool(sponsor) and sponsor.lower() in text.lower())
