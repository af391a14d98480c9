"""A seal holds what was predicted, and breaks when anything is changed."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hustings.training.registry.seal import Seal, SealError, hashed, open_seal, seal

KEY, SEALED_AT = bytes(range(32)), pd.Timestamp("2026-10-01T12:00:00")
NOTHING_YET = pd.DataFrame({"voter_id": [], "experiment_id": [], "observed_at": []})


def predictions(n: int = 6) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    lift = rng.normal(size=2 * n)
    return pd.DataFrame(
        {
            "voter_id": np.repeat([f"V{i}" for i in range(n)], 2),
            "experiment_id": "autumn",
            "message_id": ["a", "b"] * n,
            "lift": lift,
            "lift_low": lift - 1,
            "lift_high": lift + 1,
        }
    )


def outcomes(day: str = "2026-11-03", n: int = 4) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "voter_id": [f"V{i}" for i in range(n)],
            "experiment_id": "autumn",
            "observed_at": pd.Timestamp(day),
            "value": 1.0,
        }
    )


def sealed(
    predicted: pd.DataFrame, known: pd.DataFrame = NOTHING_YET, key: bytes = KEY
) -> tuple[Seal, pd.DataFrame]:
    return seal(
        predicted, known, key, campaign="autumn", outcome="voted", model="7",
        sealed_at=SEALED_AT,
    )  # fmt: skip


def test_what_was_sealed_comes_back_beside_the_outcomes() -> None:
    made, kept = sealed(predictions())
    found = open_seal(Seal.from_json(made.to_json()), kept, outcomes(), KEY)
    assert (made.n_voters, made.n_predictions) == (6, 12)
    # four of the six have an outcome by now; each was predicted for two messages
    expected = predictions().iloc[:8].set_index(["voter_id", "message_id"])["lift"]
    got = found.set_index(["voter_id", "message_id"])["lift"]
    pd.testing.assert_series_equal(got.sort_index(), expected.sort_index())
    assert (found["value"] == 1.0).all()


def test_nobody_is_named_in_what_is_kept_or_published() -> None:
    made, kept = sealed(predictions())
    text = made.to_json() + kept.to_csv()
    assert not any(f"V{i}" in text for i in range(6))
    other = hashed(pd.Series(["V0"]), bytes(32))
    assert other != hashed(pd.Series(["V0"]), KEY)


def test_the_seal_is_of_the_predictions_and_not_of_their_order() -> None:
    shuffled = predictions().sample(frac=1, random_state=1)
    assert sealed(shuffled)[0] == sealed(predictions())[0]


@pytest.mark.parametrize("column", ["lift", "lift_low", "lift_high"])
def test_the_smallest_change_of_a_prediction_breaks_the_seal(column: str) -> None:
    made, kept = sealed(predictions())
    kept.loc[3, column] = np.nextafter(kept.loc[3, column], np.inf)
    with pytest.raises(SealError, match="the digest does not match"):
        open_seal(made, kept, outcomes(), KEY)


def test_a_prediction_left_out_or_moved_to_another_breaks_the_seal() -> None:
    made, kept = sealed(predictions())
    with pytest.raises(SealError, match="the digest does not match"):
        open_seal(made, kept.iloc[1:], outcomes(), KEY)
    moved = kept.assign(voter=kept["voter"].to_numpy()[::-1])
    with pytest.raises(SealError, match="the digest does not match"):
        open_seal(made, moved, outcomes(), KEY)


@pytest.mark.parametrize(
    "changed",
    [{"sealed_at": "2026-01-01T00:00:00"}, {"model": "8"}, {"digest": "0" * 64}],
)
def test_a_changed_seal_breaks(changed: dict[str, str]) -> None:
    made, kept = sealed(predictions())
    with pytest.raises(SealError, match="the digest does not match"):
        open_seal(replace(made, **changed), kept, outcomes(), KEY)


def test_another_key_does_not_open_it() -> None:
    made, kept = sealed(predictions())
    with pytest.raises(SealError, match="seal or key were changed"):
        open_seal(made, kept, outcomes(), bytes(32))


def test_what_is_known_already_cannot_be_sealed() -> None:
    with pytest.raises(SealError, match="2 predictions are of voters whose outcome"):
        sealed(predictions(), outcomes("2026-09-01", n=2))


def test_an_outcome_older_than_the_seal_opens_nothing() -> None:
    made, kept = sealed(predictions())
    for day in ("2026-09-30", str(SEALED_AT)):
        with pytest.raises(SealError, match="the seal is younger than the outcome"):
            open_seal(made, kept, outcomes(day), KEY)


def test_times_with_and_without_a_zone_are_compared_in_utc() -> None:
    made, kept = seal(
        predictions(), NOTHING_YET, KEY, campaign="autumn", outcome="voted", model="7",
        sealed_at=SEALED_AT.tz_localize("UTC"),
    )  # fmt: skip
    assert len(open_seal(made, kept, outcomes(), KEY)) == 8
    with pytest.raises(SealError, match="younger"):
        open_seal(made, kept, outcomes("2026-10-01T11:59:59"), KEY)


def test_outcomes_of_others_open_nothing() -> None:
    made, kept = sealed(predictions())
    strangers = outcomes().assign(voter_id=[f"W{i}" for i in range(4)])
    with pytest.raises(SealError, match="outcomes of sealed voters, got none"):
        open_seal(made, kept, strangers, KEY)


def test_what_cannot_be_sealed_is_told() -> None:
    twice = pd.concat([predictions(), predictions().head(1)])
    with pytest.raises(SealError, match="got 1 repeated"):
        sealed(twice)
    with pytest.raises(SealError, match="got missing ones"):
        sealed(predictions().assign(lift=np.nan))
    with pytest.raises(SealError, match="got none"):
        sealed(predictions().head(0))
    with pytest.raises(SealError, match="a key of 32 bytes, got 4"):
        sealed(predictions(), key=b"tiny")
    with pytest.raises(SealError, match="expected a seal of format"):
        Seal.from_json('{"format": "other"}')
