"""Sealed predictions: committed before the outcomes, opened and judged after them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from hustings.experiments.stages.context import Json, Run, rounded
from hustings.features.arrays import Floats
from hustings.features.atomic import whole_file, write_json, write_parquet, write_text
from hustings.features.checksums import (
    CHECKSUMS,
    require_unaltered,
    write_checksums,
)
from hustings.features.tables import SMALLEST_CELL
from hustings.features.training_set import MessageTest, TrainingSet, message_tests
from hustings.serving.load import load_version
from hustings.training.estimators.metrics import Z95, aipw_scores
from hustings.training.learners.lift_model import Lifts
from hustings.training.policy_value.verdict import heterogeneity_summary
from hustings.training.registry.campaign_model import Reader
from hustings.training.registry.register import Version, open_store
from hustings.training.registry.seal import PREDICTED, Seal, SealError, open_seal, seal

FOLDER = "seals"
SEAL, PREDICTIONS, KEY = ".seal.json", ".predictions.parquet", ".key"
ONLY_ME = 0o600


def seal_predictions(run: Run, key: bytes, *, sealed_at: pd.Timestamp) -> Path:
    """Seal what the promoted model predicts of voters without an outcome.

    The seal is to be published. The predictions and the key lie in the same folder and
    are not: with both, anybody can read what was predicted of each voter.

    Args:
        run: A finished run.
        key: Random bytes.
        sealed_at: When, in UTC.

    Returns:
        The seal's file.

    Raises:
        SealError: If the outcome of every voter is known already.
    """
    open_store(run.mlflow_uri or None, run.store)
    promoted = run.read_json("promoted")
    version = Version(
        promoted["name"], promoted["version"], promoted["run_id"], promoted["tags"]
    )
    predictions = _predictions(run, version)
    if predictions.empty:
        raise SealError(
            "expected voters whose outcome is not known yet, got none: nothing can be "
            "sealed any more"
        )
    published_seal, sealed_rows = seal(
        predictions,
        _outcomes(run),
        key,
        campaign=run.campaign.campaign.name,
        outcome=run.campaign.outcome.name,
        model=f"{version.name}/{version.version}",
        sealed_at=sealed_at,
    )
    folder = run.home / FOLDER
    stem = f"{sealed_at:%Y%m%dT%H%M%SZ}"
    secret = folder / f"{stem}{KEY}"
    with whole_file(secret) as aside:
        aside.touch(mode=ONLY_ME)
        aside.write_text(key.hex())
    write_parquet(folder / f"{stem}{PREDICTIONS}", sealed_rows)
    published = folder / f"{stem}{SEAL}"
    write_text(published, published_seal.to_json())
    if not (folder / CHECKSUMS).exists():
        write_checksums(folder)
    return published


def open_sealed(run: Run, path: Path) -> Path:
    """Open a seal and judge it by the outcomes that the run has read.

    Args:
        run: A run whose `features` stage has read the new outcomes.
        path: The seal's file; predictions and key lie in its folder.

    Returns:
        The file with the judgement, in the seal's folder.

    Raises:
        SealError: If anything was changed, or the seal is younger than the outcomes.
    """
    stem = path.name.removesuffix(SEAL)
    if path.parent == run.home / FOLDER:
        require_unaltered(path.parent)
    with _readable(path):
        published_seal = Seal.from_json(path.read_text())
    with _readable(path.with_name(f"{stem}{KEY}")) as of_key:
        key = bytes.fromhex(of_key.read_text())
    with _readable(path.with_name(f"{stem}{PREDICTIONS}")) as of_rows:
        sealed_rows = pd.read_parquet(of_rows)
    opened = open_seal(published_seal, sealed_rows, _outcomes(run), key)
    tests = _tests(run)
    judged: Json = {
        "seal": vars(published_seal),
        "experiments": {
            str(name): _judge(tests[str(name)], predicted)
            for name, predicted in opened.groupby("experiment_id")
            if str(name) in tests
        },
    }
    result_file = path.parent / f"{stem}.opened.json"
    write_json(result_file, rounded(judged))
    return result_file


@contextmanager
def _readable(path: Path) -> Iterator[Path]:
    """Name a file of a seal that cannot be read: cut short, or damaged."""
    try:
        yield path
    except FileNotFoundError:
        raise
    except (ValueError, TypeError, AttributeError, OSError) as fault:
        raise SealError(f"{path}: expected a file of a seal, got {fault}") from None


def _outcomes(run: Run) -> pd.DataFrame:
    """Voters with an observed outcome, and when it was observed."""
    responses = run.table("responses")
    rows = responses[responses["outcome"] == run.campaign.outcome.name]
    return rows[["voter_id", "experiment_id", "observed_at"]]


def _predictions(run: Run, version: Version) -> pd.DataFrame:
    """Lift of every message for every voter of an experiment without an outcome."""
    model, voters, outcomes = load_version(version), run.table("voters"), _outcomes(run)
    parts = []
    for name, lift in model.lifts.items():
        answered = outcomes.loc[outcomes["experiment_id"] == name, "voter_id"]
        waiting = voters[~voters["voter_id"].isin(answered)].reset_index(drop=True)
        if len(waiting):
            predicted = model.predict(waiting)[name]
            messages = lift.nuisances.messages
            parts.append(_long(waiting["voter_id"], name, messages, predicted))
    columns = ["voter_id", "experiment_id", "message_id", *PREDICTED]
    return pd.concat(parts) if parts else pd.DataFrame(columns=columns)


def _long(
    voter_id: pd.Series, experiment_id: str, messages: tuple[str, ...], lifts: Lifts
) -> pd.DataFrame:
    """One row a voter and message."""
    n, width = len(voter_id), Z95 * lifts.se
    return pd.DataFrame(
        {
            "voter_id": np.repeat(voter_id.to_numpy(dtype=object), len(messages)),
            "experiment_id": experiment_id,
            "message_id": np.tile(np.array(messages, dtype=object), n),
            "lift": lifts.lift.ravel(),
            "lift_low": (lifts.lift - width).ravel(),
            "lift_high": (lifts.lift + width).ravel(),
        }
    )


def _tests(run: Run) -> dict[str, MessageTest]:
    reader = Reader.from_json(run.read_json("reader"))
    training_set = TrainingSet(
        run.read("training_set"), run.read("features"), run.table("designs")
    )
    return message_tests(training_set, reader.encoding)


def _judge(test: MessageTest, predicted: pd.DataFrame) -> Json:
    """How the sealed predictions of one experiment met its outcomes."""
    wide = predicted.pivot_table(
        index="voter_id", columns="message_id", values="lift", observed=True
    ).reindex(columns=pd.Index(test.messages))
    at = wide.index.get_indexer(pd.Index(test.voter_id))
    observed = test.take((at >= 0) & test.observed).by_message()
    if len(observed.Y) < SMALLEST_CELL:
        return {"n_voters": f"fewer than {SMALLEST_CELL}"}
    lift = wide.reindex(pd.Index(observed.voter_id)).to_numpy(dtype=np.float64)
    scores = aipw_scores(
        observed.Y, observed.arm, _arm_means(observed), observed.propensities
    )
    realised = scores[:, 1:] - scores[:, :1]
    return {
        "n_voters": len(observed.Y),
        **heterogeneity_summary(observed, lift, realised),
    }


def _arm_means(test: MessageTest) -> Floats:
    """Outcome means by the mean of everybody: no model of the outcome is needed.

    It touches the judged outcomes by one number, which no lift contains.
    """
    return np.full(test.propensities.shape, float(test.Y.mean()))
