"""Predictions sealed before outcomes are known, opened against them later.

A seal is a small JSON file to publish: the campaign, the outcome, the number of voters,
the time, and a keyed SHA-256 digest of the predictions. Voter ids appear only as
hashes under the key, which is stored separately; so a published seal reveals nothing
about a person, and no other predictions match it. Publication (a commit, an e-mail)
proves the time of the seal; opening it proves that nothing was changed.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

import pandas as pd

FORMAT = "hustings-seal-1"
PREDICTED = ("lift", "lift_low", "lift_high")
KEYS = ("experiment_id", "message_id")
KEY_BYTES = 32


class SealError(ValueError):
    """A seal that may not be made, or does not hold."""


@dataclass(frozen=True)
class Seal:
    """Published commitment to sealed predictions.

    Attributes:
        format: Version of the canonical form.
        campaign: Whose.
        outcome: What is predicted.
        model: Version of the model, or the run that made it.
        sealed_at: UTC, ISO 8601.
        n_voters: How many people.
        n_predictions: How many rows.
        digest: Keyed SHA-256 of the fields above and all rows, hexadecimal.
    """

    format: str
    campaign: str
    outcome: str
    model: str
    sealed_at: str
    n_voters: int
    n_predictions: int
    digest: str

    def to_json(self) -> str:
        """The file to publish."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            SealError: If it is no seal of this format.
        """
        stored = json.loads(text)
        if stored.get("format") != FORMAT:
            raise SealError(
                f"expected a seal of format {FORMAT!r}, got {stored.get('format')!r}"
            )
        return cls(**stored)


def seal(
    predictions: pd.DataFrame,
    outcomes: pd.DataFrame,
    key: bytes,
    *,
    campaign: str,
    outcome: str,
    model: str,
    sealed_at: pd.Timestamp,
) -> tuple[Seal, pd.DataFrame]:
    """Seal predictions of voters whose outcomes nobody knows yet.

    Args:
        predictions: voter_id, experiment_id, message_id, lift, lift_low, lift_high.
        outcomes: What is known so far: voter_id, experiment_id, observed_at.
        key: At least `KEY_BYTES` random bytes, kept apart from the seal.
        campaign: Whose.
        outcome: What is predicted.
        model: Version of the model, or the run that made it.
        sealed_at: When, in UTC.

    Returns:
        The seal, and the predictions with hashed ids (column voter) in the sealed
        order: to be kept, and handed to `open_seal`.

    Raises:
        SealError: If an outcome of a sealed voter is already known, a row repeats or
            is no number, or the key is short.
    """
    _check_predictions(predictions, key)
    already_observed = _pairs(predictions) & _pairs(outcomes)
    if already_observed:
        raise SealError(
            f"expected voters whose outcome is not known yet, but "
            f"{len(already_observed)} predictions are of voters whose "
            "outcome is already there: a prediction can only be sealed before"
        )
    hashed_predictions = predictions.assign(voter=hashed(predictions["voter_id"], key))
    hashed_predictions = hashed_predictions[["voter", *KEYS, *PREDICTED]].astype(
        dict.fromkeys(KEYS, "str")
    )
    hashed_predictions = hashed_predictions.sort_values(
        ["voter", *KEYS], ignore_index=True
    )
    head: dict[str, Any] = {
        "format": FORMAT,
        "campaign": campaign,
        "outcome": outcome,
        "model": model,
        "sealed_at": sealed_at.isoformat(),
        "n_voters": int(hashed_predictions["voter"].nunique()),
        "n_predictions": len(hashed_predictions),
    }
    return Seal(
        **head, digest=_digest(head, hashed_predictions, key)
    ), hashed_predictions


def open_seal(
    sealed: Seal, predictions: pd.DataFrame, outcomes: pd.DataFrame, key: bytes
) -> pd.DataFrame:
    """Sealed predictions joined to the outcomes that have come since.

    Args:
        sealed: The published seal.
        predictions: Predictions as `seal` returned them.
        outcomes: voter_id, experiment_id, observed_at and more, one row a voter and
            experiment.
        key: The key that they were sealed with.

    Returns:
        Rows of `outcomes` that were predicted, once for each message predicted: their
        own columns, message_id and the predicted columns.

    Raises:
        SealError: If predictions, seal or key were changed, an outcome was there before
            the seal, or no outcome belongs to it.
    """
    head = {k: v for k, v in asdict(sealed).items() if k != "digest"}
    if len(predictions) != sealed.n_predictions or not hmac.compare_digest(
        _digest(head, predictions, key), sealed.digest
    ):
        raise SealError(
            "expected the predictions that were sealed, got others: the digest does "
            "not match, so predictions, seal or key were changed"
        )
    hashed_outcomes = outcomes.assign(voter=hashed(outcomes["voter_id"], key))
    hashed_outcomes["experiment_id"] = hashed_outcomes["experiment_id"].astype("str")
    opened_rows = hashed_outcomes.merge(
        predictions, on=["voter", "experiment_id"], how="inner"
    )
    if opened_rows.empty:
        raise SealError("expected outcomes of sealed voters, got none: not yet there")
    first = pd.Timestamp(opened_rows["observed_at"].min())
    at = pd.Timestamp(sealed.sealed_at)
    if first.tzinfo is None and at.tzinfo is not None:
        at = at.tz_convert("UTC").tz_localize(None)
    if not first > at:
        raise SealError(
            f"expected outcomes observed after the seal of {sealed.sealed_at}, got one "
            f"of {first.isoformat()}: the seal is younger than the outcome"
        )
    return opened_rows.drop(columns="voter")


def hashed(voter_id: pd.Series, key: bytes) -> list[str]:
    """Ids as hashes that only the holder of the key can make, hexadecimal."""
    return [
        hmac.new(key, b"voter\0" + str(v).encode(), hashlib.sha256).hexdigest()
        for v in voter_id
    ]


def _digest(head: Mapping[str, Any], predictions: pd.DataFrame, key: bytes) -> str:
    """Keyed SHA-256 of the canonical bytes: sorted JSON, then a line a prediction.

    Numbers are written as hexadecimal floats: the same bytes for the same value on
    every machine, and no two values the same.
    """
    mac = hmac.new(key, b"seal\0", hashlib.sha256)
    mac.update(json.dumps(head, sort_keys=True).encode() + b"\n")
    ordered = predictions.sort_values(["voter", *KEYS], ignore_index=True)
    columns = [ordered[name].astype("str") for name in ("voter", *KEYS)]
    numbers = [[float(v).hex() for v in ordered[name]] for name in PREDICTED]
    for row in zip(*columns, *numbers, strict=True):
        mac.update(json.dumps(row).encode() + b"\n")
    return mac.hexdigest()


def _pairs(frame: pd.DataFrame) -> set[tuple[str, str]]:
    pairs = frame[["voter_id", "experiment_id"]].astype("str")
    return set(pairs.itertuples(index=False, name=None))


def _check_predictions(predictions: pd.DataFrame, key: bytes) -> None:
    if len(key) < KEY_BYTES:
        raise SealError(f"expected a key of {KEY_BYTES} bytes, got {len(key)}")
    if predictions.empty:
        raise SealError("expected predictions to seal, got none")
    if predictions[list(PREDICTED)].isna().any(axis=None):
        raise SealError("expected a number in every prediction, got missing ones")
    repeated = int(predictions.duplicated(["voter_id", *KEYS]).sum())
    if repeated:
        raise SealError(
            f"expected one prediction a voter and message, got {repeated} repeated"
        )
