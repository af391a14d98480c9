"""What was known of a voter before a date, and the numbers a model reads it as."""

import json

import numpy as np
import pandas as pd
import pytest

from hustings.features.voter import (
    AGE_BINS,
    AGE_LABELS,
    HISTORY_BINS,
    HISTORY_LABELS,
    HISTORY_SHARE,
    MAX_LEVELS,
    TENURE_YEARS,
    Encoding,
    history_columns,
    segment_bins,
    segment_parts,
    segments,
    voter_features,
)

AS_OF = pd.Timestamp("2024-08-06")


@pytest.fixture
def voters() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "voter_id": ["a", "b", "c"],
            "birth_year": [1960.0, 1990.0, np.nan],
            "age": [63.0, 33.0, 50.0],
            "sex": ["F", "M", None],
            "registered_on": pd.to_datetime(["2014-08-06", "2024-08-07", None]),
            "voted_20201103_general": [1.0, 0.0, np.nan],
            "voted_20240805_primary": [1.0, 1.0, np.nan],
            "voted_20240806_primary": [0.0, 1.0, 1.0],
            "voted_20241105_general": [0.0, 1.0, 1.0],
        }
    )


def test_history_is_strictly_before_the_date() -> None:
    dated = ["voted_20201103_general", "voted_20240805_primary"]
    later = ["voted_20240806_primary", "voted_20241105_general"]
    assert history_columns([*dated, *later, "age"], AS_OF) == dated
    next_day = history_columns([*dated, *later], AS_OF + pd.Timedelta(days=1))
    assert next_day == [*dated, later[0]]


def test_no_feature_tells_of_the_date_or_after(voters: pd.DataFrame) -> None:
    """Answers of later elections turned round change nothing."""
    found = voter_features(voters, list(voters.columns), as_of=AS_OF)
    later = ["voted_20240806_primary", "voted_20241105_general"]
    turned = voters.assign(**{c: 1 - voters[c] for c in later})
    again = voter_features(turned, list(voters.columns), as_of=AS_OF)
    pd.testing.assert_frame_equal(found, again)
    assert not set(later) & set(found.columns)


def test_the_share_of_elections_counts_those_on_file(voters: pd.DataFrame) -> None:
    columns = [c for c in voters if c.startswith("voted_")]
    found = voter_features(voters, columns, as_of=AS_OF)
    assert found.index.tolist() == ["a", "b", "c"]
    assert found[HISTORY_SHARE].tolist()[:2] == [1.0, 0.5]
    assert np.isnan(found.loc["c", HISTORY_SHARE])


def test_tenure_is_counted_in_years_and_unknown_for_the_not_yet_registered(
    voters: pd.DataFrame,
) -> None:
    found = voter_features(voters, ["sex", "registered_on"], as_of=AS_OF)
    assert "registered_on" not in found
    assert found.loc["a", TENURE_YEARS] == pytest.approx(10, abs=0.01)
    assert found[TENURE_YEARS].isna().tolist() == [False, True, True]


def test_an_age_on_file_goes_before_a_birth_year(voters: pd.DataFrame) -> None:
    given = voter_features(voters, ["age", "birth_year"], as_of=AS_OF)
    assert given["age"].tolist() == [63.0, 33.0, 50.0]
    assert "birth_year" not in given


def test_age_comes_from_the_birth_year_where_none_is_on_file(
    voters: pd.DataFrame,
) -> None:
    reckoned = voter_features(voters.drop(columns="age"), ["sex"], as_of=AS_OF)
    assert reckoned["age"].tolist()[:2] == [64.0, 34.0]
    assert np.isnan(reckoned["age"].iloc[2])


def test_an_age_that_is_no_feature_does_not_come_back_by_the_birth_year(
    voters: pd.DataFrame,
) -> None:
    found = voter_features(voters, ["sex"], as_of=AS_OF)
    assert found.columns.tolist() == ["sex"]


def test_the_voter_file_given_is_left_as_it_is(voters: pd.DataFrame) -> None:
    before = voters.copy()
    voter_features(voters, list(voters.columns), as_of=AS_OF)
    pd.testing.assert_frame_equal(voters, before)


@pytest.fixture
def features() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": [20.0, np.nan, 70.0, 41.0],
            "party": ["D", "R", None, "R"],
            "owner": [True, False, True, False],
        }
    )


def test_categories_are_coded_by_frequency_and_the_rest_is_missing(
    features: pd.DataFrame,
) -> None:
    encoding = Encoding.fit(features)
    assert encoding.names == ("age", "party", "owner")
    assert encoding.levels == {"party": ("R", "D")}
    assert encoding.categorical == [1]
    unseen = features.assign(party=["Green", "D", "R", "r"])
    np.testing.assert_array_equal(
        encoding.transform(unseen),
        [[20, np.nan, 1], [np.nan, 1, 0], [70, 0, 1], [41, np.nan, 0]],
    )
    assert encoding.transform(features).dtype == np.float32


def test_columns_are_read_by_name_in_the_order_of_training(
    features: pd.DataFrame,
) -> None:
    encoding = Encoding.fit(features)
    turned = features[["owner", "party", "age"]].assign(new=1.0)
    np.testing.assert_array_equal(
        encoding.transform(turned), encoding.transform(features)
    )
    with pytest.raises(KeyError, match="party"):
        encoding.transform(features.drop(columns="party"))


def test_an_encoding_survives_json(features: pd.DataFrame) -> None:
    encoding = Encoding.fit(features)
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json())))
    assert again == encoding
    np.testing.assert_array_equal(
        again.transform(features), encoding.transform(features)
    )


def test_one_voter_alone_is_read_as_in_company(features: pd.DataFrame) -> None:
    encoding = Encoding.fit(features)
    together = encoding.transform(features)
    for i in range(len(features)):
        np.testing.assert_array_equal(
            encoding.transform(features.iloc[[i]]), together[[i]]
        )


def test_no_column_has_more_than_the_most_frequent_levels() -> None:
    names = [f"p{i:03d}" for i in range(MAX_LEVELS + 10)]
    repeats = np.arange(len(names), 0, -1)
    features = pd.DataFrame({"precinct": np.repeat(names, repeats)})
    assert Encoding.fit(features).levels["precinct"] == tuple(names[:MAX_LEVELS])


def test_segments_are_told_in_words() -> None:
    features = pd.DataFrame(
        {
            "age": [18.0, 34.9, 35.0, 50.0, 65.0, np.nan],
            "sex": ["F", "M", "F", None, "U", "F"],
            HISTORY_SHARE: [0.0, 0.34, 0.35, 0.67, 1.0, np.nan],
        },
        index=list("abcdef"),
    )
    found = segments(features, ["age", "sex", "history"])
    assert found.to_dict() == {
        "a": "under 35 · F · votes seldom",
        "b": "under 35 · M · votes seldom",
        "c": "35-49 · F · votes sometimes",
        "d": "50-64 · unknown · votes sometimes",
        "e": "65 and over · U · votes often",
        "f": "unknown · F · unknown",
    }


def test_bins_of_a_requests_arrays_are_those_of_a_table() -> None:
    rng = np.random.default_rng(0)
    ages = [0.0, 34.999, 35.0, 49.5, 50.0, 65.0, 199.0, 200.0, -1.0, np.nan]
    shares = [-0.01, 0.0, 0.34, 0.341, 0.67, 0.68, 1.01, 1.02, np.nan, 0.5]
    features = pd.DataFrame(
        {
            "age": ages,
            HISTORY_SHARE: shares,
            "sex": pd.Series([*"FMFMU", None, *"FMFM"], dtype="str"),
            "income": [*rng.normal(size=9), np.nan],
            "owner": [0.0, 1.0] * 5,
            "flag": pd.array([True, False, None] * 3 + [True], dtype="boolean"),
        }
    )
    columns = ["age", "history", "sex", "income", "owner", "flag", "nowhere"]
    edges = {"income": (-1.0, 0.0, 0.5, 3.0), "owner": (), "flag": ()}
    table = segment_parts(features, columns, edges)
    # as pandas cuts them
    for name, bins, labels, right in (
        ("age", AGE_BINS, AGE_LABELS, False),
        (HISTORY_SHARE, HISTORY_BINS, HISTORY_LABELS, True),
    ):
        cut = pd.cut(features[name], bins, right=right, labels=labels).astype(object)
        assert table[name].tolist() == cut.fillna("unknown").tolist()
    arrays = {
        **{
            n: features[n].to_numpy() for n in ("age", HISTORY_SHARE, "income", "owner")
        },
        "sex": np.array([*"FMFMU", None, *"FMFM"], dtype=object),
        "flag": np.array([1.0, 0.0, np.nan] * 3 + [1.0]),
    }
    for rows in (slice(None), *(slice(k, k + 1) for k in range(10))):
        taken = {name: values[rows] for name, values in arrays.items()}
        n = len(taken["age"])
        bins = segment_bins(taken, columns, edges, n=n)
        for name, of_voters in bins.of_column.items():
            assert of_voters.tolist() == table[name].iloc[rows].tolist()
        labels = segments(features.iloc[rows], columns, edges)
        assert bins.label().tolist() == labels.tolist()
    assert segment_bins({}, ["age"], n=2).label().tolist() == ["everyone"] * 2


def test_numbers_of_many_values_are_cut_in_thirds_and_of_few_named() -> None:
    features = pd.DataFrame(
        {"income": np.arange(90.0), "owner": [0.0, 1.0, np.nan] * 30}
    )
    thirds = segments(features, ["income"])
    assert thirds.value_counts().tolist() == [30, 30, 30]
    assert thirds.str.startswith("income ").all()
    assert set(segments(features, ["owner"])) == {"owner 0", "owner 1", "unknown"}


def test_without_known_columns_everyone_is_one_segment() -> None:
    features = pd.DataFrame({"age": [20.0, 30.0]}, index=["a", "b"])
    assert segments(features, ["nowhere"]).to_dict() == {
        "a": "everyone", "b": "everyone",
    }  # fmt: skip
