"""Posts get the issue they speak of, with a confidence that means what it says."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

from hustings.experiments.declaration import data_dir
from hustings.features.minilm import PACKAGE, embed
from hustings.features.post import Topics, confidence_of, issue_of

pytest.importorskip(PACKAGE, reason="the sentence model: pip install hustings[text]")
MESSAGES = data_dir() / "issue_messages2025" / "messages.parquet"
POSTS = data_dir() / "facebook_reactions2016" / "facebook_reactions_2016.parquet"
# the smallest models wrote no sentences
NO_SENSE = "70m|160m|410m"
N_PER_ISSUE = 8
MADE_OF = (1, 3)
"""Messages that an issue is made from; the others are the posts."""


@dataclass(frozen=True)
class Said:
    """Messages, and a sentence or two of each, as long as a post."""

    messages: pd.DataFrame
    said: np.ndarray
    meant: np.ndarray
    posted: np.ndarray


@pytest.fixture(scope="module")
def messages() -> pd.DataFrame:
    if not MESSAGES.exists():
        pytest.skip(f"the public data are not there: {MESSAGES.name}")
    raw = pd.read_parquet(MESSAGES)
    raw = raw[~raw["model"].str.contains(NO_SENSE)]
    raw = raw.groupby("issue").sample(N_PER_ISSUE, random_state=1)
    return pd.DataFrame(
        {
            "issue": raw["issue"],
            "stance": raw["issue_stance_full"],
            "text": raw["message_text"],
        }
    ).reset_index(drop=True)


@pytest.fixture(scope="module")
def said(messages) -> Said:
    rng = np.random.default_rng(7)
    posts = [_as_post(text, rng) for text in messages["text"]]
    stances, place = np.unique(messages["stance"], return_inverse=True)
    return Said(
        messages, embed(messages["text"].tolist()), embed(stances.tolist())[place],
        embed(posts),
    )  # fmt: skip


def _as_post(text: str, rng: np.random.Generator) -> str:
    """A sentence or two of a message: as long as a post."""
    sentences = [s for s in re.split(r"(?<=[.!?])\s+", text) if len(s) > 30]
    if not sentences:
        return text[:200]
    return " ".join(sentences[rng.integers(len(sentences)) :][:2])


def _answers(said, n_made_of, rng):
    """Cosines of posts that no issue was made from, and whether the nearest is right.

    Every post comes twice: once as it is, once as if its issue were none of ours.
    """
    issue = said.messages["issue"]
    order = pd.Series(rng.permutation(len(issue)), issue.index)
    made_of = order.groupby(issue).rank().le(n_made_of).to_numpy()
    topics = Topics.between(
        issue[made_of].tolist(), said.said[made_of], said.meant[made_of]
    )
    cosine = said.posted[~made_of].astype(float) @ topics.matrix.T
    own = pd.Index(topics.issues).get_indexer(pd.Index(issue[~made_of]))
    hidden = cosine.copy()
    hidden[np.arange(len(own)), own] = -1
    return cosine, cosine.argmax(axis=1) == own, hidden


def _drawn(said, seed):
    """Many draws: cosines, whether the nearest is right, whether it is hidden."""
    rng = np.random.default_rng(seed)
    parts = [_answers(said, n, rng) for n in MADE_OF for _ in range(6)]
    spoken, right, hidden = (np.concatenate(part) for part in zip(*parts, strict=True))
    never = np.zeros(len(hidden), dtype=bool)
    return (
        np.vstack([spoken, hidden]),
        np.concatenate([right, never]),
        np.concatenate([never, ~never]),
    )


def test_the_confidence_is_the_share_that_is_right(said):
    cosine, right, hidden = _drawn(said, 9)
    sure = confidence_of(cosine)
    # nearly all that speak of an issue get it, nearly none of the others gets one
    assert (right & (sure >= 0.5))[~hidden].mean() > 0.85
    assert (sure >= 0.5)[hidden].mean() < 0.05
    assert abs(sure.mean() - right.mean()) < 0.03
    for low, high in ((0.0, 0.2), (0.2, 0.8), (0.8, 1.0)):
        some = (sure >= low) & (sure < high)
        assert abs(sure[some].mean() - right[some].mean()) < 0.12


def test_the_weights_are_those_that_the_messages_give(said):
    cosine, right, _ = _drawn(said, 10)
    order = np.sort(cosine, axis=1)
    seen = np.column_stack([order[:, -1], order[:, -1] - order[:, -2]])
    fit = LogisticRegression(C=1e3).fit(seen, right)
    differs = fit.predict_proba(seen)[:, 1] - confidence_of(cosine)
    assert np.abs(differs).mean() < 0.05


def test_real_posts_on_an_issue_are_found_and_most_posts_have_none(messages):
    if not POSTS.exists():
        pytest.skip(f"the public data are not there: {POSTS.name}")
    posts = pd.read_parquet(POSTS, columns=["status_message", "link_name"]).fillna("")
    text = posts["status_message"] + " " + posts["link_name"]
    named = text.str.contains(r"assisted (?:suicide|dying)", case=False)
    some = text[named].head(12).tolist()
    rest = text[~named & (text.str.len() > 20)].sample(40, random_state=3).tolist()
    found = issue_of([*some, *rest], Topics.of(messages.groupby("issue").head(3)))
    share = np.mean([i == "Assisted Suicide" for i in found.issue[: len(some)]])
    others = np.mean([i is not None for i in found.issue[len(some) :]])
    assert len(some) >= 8
    assert share > 0.6
    assert others < 0.05
