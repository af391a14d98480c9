"""Small message tests drawn as arrays, and one simulated campaign fitted once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from hustings.experiments.declaration import feature_columns, load_campaign
from hustings.features.simulated.campaign import Sample, simulate, write_sample
from hustings.features.training_set import (
    Arm,
    MessageTest,
    TrainingSet,
    build_training_set,
    message_tests,
)
from hustings.features.voter import Encoding
from hustings.training.learners import boosting
from hustings.training.learners.gbm import (
    DEFAULT_PARAMS,
    GbmLift,
    Prepared,
    fit_gbm,
    prepare,
)
from hustings.training.registry.campaign_model import CampaignModel, Reader
from tests.taken import ingest_all

SAMPLE_FEATURES = [
    "age", "sex", "party", "income_usd", "homeowner", "college", "children_at_home",
    "urbanicity", "consumer_score", "noise",
]  # fmt: skip
"""What drives the simulated lifts, and what does not."""


def draw_test(
    rng: np.random.Generator,
    *,
    n_households: int = 2_000,
    size: int = 2,
    lift: Callable[[np.ndarray], np.ndarray] = lambda X: np.zeros((len(X), 2)),
    baseline: Callable[[np.ndarray], np.ndarray] = lambda X: X[:, 0],
    channels: dict[str, float] | None = None,
    control: float = 0.4,
    noise: float = 1.0,
    family: float = 0.5,
    n_features: int = 4,
    categorical: bool = False,
    clusters: int = 0,
    cluster_noise: float = 0.0,
) -> tuple[MessageTest, np.ndarray]:
    """A household-randomised test with known lifts, and the lifts, (n, M).

    Y = baseline(X) + multiplier of the channel × lift(X) + noise of person and family.
    With `clusters` the cluster is what is drawn, and shares noise of its own.
    """
    n = n_households * size
    household = np.repeat(np.arange(n_households), size)
    X = rng.normal(size=(n, n_features))
    if categorical:
        X[:, -1] = rng.integers(3, size=n)
    X = X.astype(np.float32)
    unit = household * clusters // n_households if clusters else household
    n_drawn = clusters or n_households
    true = lift(X.astype(np.float64))
    multipliers = channels or {"mail": 1.0}
    arms = [Arm(f"m{m}", c) for m in range(true.shape[1]) for c in multipliers]
    e = np.array([control, *[(1 - control) / len(arms)] * len(arms)])
    arm = rng.choice(len(e), size=n_drawn, p=e)[unit]
    times = np.array([0.0, *[multipliers[a.channel] for a in arms]])[arm]
    message = np.maximum(arm - 1, 0) // len(multipliers)
    Y = baseline(X.astype(np.float64)) + times * true[np.arange(n), message]
    Y = (
        Y
        + noise * rng.normal(size=n)
        + family * rng.normal(size=n_households)[household]
    )
    if clusters:
        Y = Y + cluster_noise * rng.normal(size=clusters)[unit]
    ids = np.array([f"V{i}" for i in range(n)], dtype=object)
    unit_id = np.array([f"U{u}" for u in unit], dtype=object)
    drawn = MessageTest(
        experiment_id="planted", arms=tuple(arms), voter_id=ids, unit=unit,
        unit_id=unit_id, household=household, drawn=unit, block=np.zeros(n, np.int64),
        X=X, arm=arm, Y=Y, propensities=np.tile(e, (n, 1)),
    )  # fmt: skip
    return drawn, true


@pytest.fixture(scope="session", autouse=True)
def _calm() -> Iterator[None]:
    """Two threads that wait for each other on a busy machine are slower than one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(boosting._FIXED, "num_threads", 1)
        patch.setattr(boosting, "N_THREADS", 1)
        yield


@pytest.fixture(scope="session")
def planted() -> Callable[..., tuple[MessageTest, np.ndarray]]:
    return draw_test


@dataclass(frozen=True)
class Modelled:
    """A campaign model of the simulated campaign, and the raw rows it reads."""

    model: CampaignModel
    raw: pd.DataFrame
    voters: pd.DataFrame
    training_set: TrainingSet
    test: MessageTest


@pytest.fixture(scope="session")
def modelled(tmp_path_factory: pytest.TempPathFactory) -> Modelled:
    """3,000 voters, with lifts that differ between them."""
    home = tmp_path_factory.mktemp("modelled")
    campaign = load_campaign("sample")
    write_sample(simulate(n_voters=3_000, seed=5, n_messages=3), home / "raw")
    found = ingest_all(
        campaign.tables, outcome="support", campaign_dir=campaign.folder,
        data_dir=home, raw_dir=home / "raw",
    )  # fmt: skip
    columns = feature_columns(campaign, list(found.tables["voters"].columns))
    made = build_training_set(
        found.tables, columns, outcome="support", absent="missing"
    )
    encoding = Encoding.fit(made.features)
    ((name, test),) = message_tests(made, encoding).items()
    issue_of = found.tables["messages"].set_index("message_id")["issue"].to_dict()
    prepared = prepare(test, encoding.categorical, issue_of, seed=5)
    lift = fit_gbm(prepared, {**DEFAULT_PARAMS, "min_child_samples": 100}, seed=5)
    # believed in full: on so few voters the calibration would leave no differences
    believed = replace(
        lift.calibration, weight=np.array([1.0, 0.5]), slope=np.ones(len(test.messages))
    )
    as_of = made.rows["sent_on"].min().normalize()
    model = CampaignModel(
        campaign="sample",
        reader=Reader(found.sources["voters"], tuple(columns), as_of, encoding),
        lifts={name: replace(lift, calibration=believed)},
        arms={name: test.arms},
        champions={name: "personalised"},
        facts={
            "outcome": campaign.outcome.model_dump(mode="json"),
            "verdict": "personalise", "data_hash": "d" * 64,
        },
    )  # fmt: skip
    raw = pd.read_parquet(home / "raw" / "voters.parquet")
    voters = found.tables["voters"].reset_index(drop=True)
    return Modelled(model, raw, voters, made, test)


@dataclass(frozen=True)
class Fitted:
    """The simulated campaign with its truth and the default model."""

    sample: Sample
    training_set: TrainingSet
    encoding: Encoding
    test: MessageTest
    issue_of: dict[str, str]
    prepared: Prepared
    model: GbmLift
    truth: np.ndarray
    """True lift of every voter and message by the design's mix of channels, (n, M)."""


def _fitted(**settings: Any) -> Fitted:
    sample = simulate(**settings)
    made = build_training_set(
        sample.tables, SAMPLE_FEATURES, outcome="support", absent="missing"
    )
    encoding = Encoding.fit(made.features)
    (test,) = message_tests(made, encoding).values()
    messages = sample.tables["messages"]
    issue_of = dict(zip(messages["message_id"], messages["issue"], strict=True))
    prepared = prepare(test, encoding.categorical, issue_of, seed=1)
    lifts = sample.truth.set_index("voter_id").loc[test.voter_id]
    by_mail = lifts[[f"lift__{m}" for m in test.messages]].to_numpy(float)
    # every channel is drawn equally often
    mix = sample.channels["multiplier"].mean()
    return Fitted(
        sample, made, encoding, test, issue_of, prepared,
        fit_gbm(prepared, seed=1), by_mail * mix,
    )  # fmt: skip


@pytest.fixture(scope="session")
def fitted() -> Fitted:
    return _fitted(n_voters=50_000, seed=1)


@pytest.fixture(scope="session")
def null_fitted() -> Fitted:
    return _fitted(n_voters=30_000, seed=2, null_twin=True)


@pytest.fixture(scope="session")
def small_trees() -> dict[str, Any]:
    """Settings for a few thousand voters."""
    return {
        "n_trees": 15, "learning_rate": 0.2, "num_leaves": 4, "min_child_samples": 50,
        "lambda_l2": 1.0,
    }  # fmt: skip
