"""Classification of posts by issue, from the sentence embedding of the text.

An issue is the mean embedding of its messages and of the positions they take. A post
gets the nearest issue, with the probability that it is right; below a floor it gets
none, because most posts are about no issue of the campaign.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Floats32

FLOOR = 0.5
"""Below this confidence a post has no issue."""
MAX_SAID = 8
"""Messages that an issue is made from: more cost time and hardly change the mean."""
WEIGHTS = (21.8, 14.5, -12.2)
"""Log odds that the nearest issue is right: of its cosine, of how far the second lies
behind, and where both are 0. Fitted on a sentence or two of messages that the issues
were not made from, for half of which their own issue was hidden, with 1 to 25
messages an issue: `tests/data/test_real_posts.py` fits them anew."""


class PostIssues(NamedTuple):
    """Issues of posts.

    Attributes:
        issue: Of every post, None below the floor.
        confidence: Probability that the nearest issue is right where half of all posts
            speak of one of the issues, shape (n_posts,).
    """

    issue: list[str | None]
    confidence: Floats


@dataclass(frozen=True)
class Topics:
    """The campaign's issues as directions of meaning.

    Attributes:
        issues: Their names, length k.
        matrix: Directions of length 1, shape (k, 384).
    """

    issues: tuple[str, ...]
    matrix: Floats32

    @classmethod
    def of(cls, messages: pd.DataFrame) -> Self:
        """Build from the messages' texts and the positions they take.

        Args:
            messages: MESSAGES table; where a message states no stance, the name of
                its issue is taken instead.

        Raises:
            ModuleNotFoundError: If the sentence model is not installed.
        """
        # torch is slow to import, and who knows every issue needs none of it
        from hustings.features.minilm import embed

        sample = messages.groupby("issue").head(MAX_SAID)
        issue = sample["issue"]
        stance = sample.get("stance", issue)
        stance = stance.where(stance.notna() & (stance != ""), issue)
        stances, place = np.unique(stance.astype("str"), return_inverse=True)
        said, meant = embed(sample["text"].tolist()), embed(stances.tolist())
        return cls.between(issue.tolist(), said, meant[place])

    @classmethod
    def between(cls, issue: Sequence[str], said: Floats32, meant: Floats32) -> Self:
        """Build from embeddings.

        Args:
            issue: Of n messages.
            said: What their texts mean, shape (n, 384).
            meant: What their stances mean, shape (n, 384).
        """
        names = sorted(set(issue))
        rows = [np.array([name == i for i in issue]) for name in names]
        # as much weight to what is meant as to all that is said
        directions = [
            _unit(said[r].mean(axis=0)) + _unit(meant[r].mean(axis=0)) for r in rows
        ]
        return cls(tuple(names), np.array([_unit(v) for v in directions]))


def issue_of(
    texts: Sequence[str], topics: Topics, *, floor: float = FLOOR
) -> PostIssues:
    """The issue of every text, and how sure that is.

    Args:
        texts: What posts say.
        topics: The campaign's issues.
        floor: Confidence below which a post has no issue.

    Raises:
        ModuleNotFoundError: If the sentence model is not installed.
    """
    from hustings.features.minilm import embed

    cosine = embed(texts).astype(np.float64) @ topics.matrix.T
    confidence = confidence_of(cosine)
    nearest = cosine.argmax(axis=1) if len(cosine) else []
    issue = [
        topics.issues[i] if sure >= floor else None
        for i, sure in zip(nearest, confidence, strict=True)
    ]
    return PostIssues(issue, confidence)


def confidence_of(cosine: Floats) -> Floats:
    """Probability that the nearest issue is right.

    Args:
        cosine: Of n texts with k issues, shape (n, k). With one issue there is no
            second one to be farther from, and the confidence is the lower for it.

    Returns:
        Shape (n,).

    >>> confidence_of(np.array([[0.8, 0.2], [0.3, 0.25]])).round(2).tolist()
    [1.0, 0.01]
    """
    order = np.sort(cosine, axis=1)
    nearest = order[:, -1]
    ahead = nearest - order[:, -2] if cosine.shape[1] > 1 else np.zeros(len(cosine))
    odds = WEIGHTS[0] * nearest + WEIGHTS[1] * ahead + WEIGHTS[2]
    sure: Floats = 1 / (1 + np.exp(-odds))
    return sure


def _unit(v: Floats32) -> Floats32:
    unit_vector: Floats32 = v / np.linalg.norm(v)
    return unit_vector
