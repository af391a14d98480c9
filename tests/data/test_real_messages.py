"""Real messages on five of ten issues: what their texts tell, in a quick version.

`tests/speed/test_message_text.py` is the long one, with intervals.
"""

import importlib.util

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import block_diag
from scipy.stats import spearmanr

from hustings.experiments.declaration import data_dir, feature_columns, load_campaign
from hustings.features import minilm
from hustings.features.message import message_features
from hustings.features.training_set import build_training_set, message_tests
from hustings.features.voter import Encoding
from hustings.serving.voting_text import voting_words
from hustings.training.estimators.metrics import clustered_means
from hustings.training.learners.average_effects import fit_nuisances
from hustings.training.learners.boosting import binned
from hustings.training.learners.text_prior import (
    SentMessages,
    even_noise,
    fit_message_prior,
    text_ranks,
)
from tests.taken import ingest_all


def test_real_issue_messages_hardly_ever_need_a_signature() -> None:
    path = data_dir() / "issue_messages2025/messages.parquet"
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")
    texts = pd.read_parquet(path)["message_text"].astype(str)
    held = [text for text in texts if voting_words(text)]
    assert len(texts) == 490
    # one of 490: on the voting rights of felons, which a person should look at
    assert len(held) <= 5


@pytest.fixture(scope="module")
def sent() -> tuple[SentMessages, list[str]]:
    path = data_dir() / "issue_messages2025/responses.parquet"
    if not path.exists():
        pytest.skip(f"the public data is not there: {path}; set HUSTINGS_DATA")
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip("the sentence model is not installed: " + minilm.INSTALL)
    campaign = load_campaign("2024_issue_messages")
    found = ingest_all(
        campaign.tables, outcome="agreement", outcome_kind="continuous",
        campaign_dir=campaign.folder, data_dir=data_dir(),
    )  # fmt: skip
    columns = feature_columns(campaign, list(found.tables["voters"]))
    made = build_training_set(
        found.tables, columns, outcome="agreement", absent="missing"
    )
    encoding = Encoding.fit(made.features)
    ids, issue, effects, noises = [], [], [], []
    tests = message_tests(made, encoding)
    # every second issue: embedding all texts takes a minute
    for name in sorted(tests)[::2]:
        test = tests[name]
        issues = dict.fromkeys(test.messages, name)
        nuisances = fit_nuisances(
            test, binned(test.X, encoding.categorical), issues, seed=1
        )
        scores = nuisances.scores(test)
        mean, noise = clustered_means(scores[:, 1:] - scores[:, :1], test.cluster)
        people = np.bincount(test.arm, minlength=1 + len(mean))[1:]
        ids += test.messages
        issue += [name] * len(mean)
        effects.append(mean)
        noises.append(even_noise(noise, [name] * len(mean), people))
    table = found.tables["messages"]
    messages = message_features(table[table["message_id"].isin(ids)]).of(ids)
    prior = fit_message_prior(
        np.concatenate(effects), block_diag(*noises), issue,
        [messages.embedding.astype(float), messages.readable.astype(float)],
        rng=np.random.default_rng(1),
    )  # fmt: skip
    return prior.sent, issue


def test_texts_rank_messages_held_out_within_issue(
    sent: tuple[SentMessages, list[str]],
) -> None:
    """About .25 over all issues; by chance 0 ± .065."""
    known, issue = sent
    fold = np.random.default_rng(0).permutation(len(issue)) % 5
    ranks = np.empty(len(issue))
    for k in range(5):
        ranks[fold == k] = text_ranks(known, np.flatnonzero(fold == k))
    names = np.array(issue)
    found = [
        spearmanr(ranks[names == name], known.estimate[names == name]).statistic
        for name in set(issue)
    ]
    assert np.mean(found) > 0.15, found
