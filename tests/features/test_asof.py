"""What was known at a moment: strictly before it, and nothing else."""

import ibis
import numpy as np
import pandas as pd
import pytest

from hustings.features.asof import (
    before,
    events_before,
    first_delivery,
    last_before,
    permissions_before,
    sums_before,
)
from hustings.features.tables import TableError

NOON = pd.Timestamp("2026-04-06 12:00:00")
SECOND = pd.Timedelta(seconds=1)


def at(*times: pd.Timestamp) -> pd.DataFrame:
    return pd.DataFrame({"at": pd.Series(times, dtype="datetime64[us]")})


def events(*told: tuple[str, pd.Timestamp, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(told, columns=["voter_id", "at", "column", "amount"])
    return frame.astype({"at": "datetime64[us]"})


def deliveries() -> pd.DataFrame:
    """v1 is met at noon and a day later, v2 at noon, v3 never reacts."""
    rows = [
        ("v1", NOON),
        ("v2", NOON),
        ("v1", NOON + pd.Timedelta(days=1)),
        ("v3", NOON),
    ]
    return pd.DataFrame(rows, columns=["voter_id", "sent_on"])


def test_what_happens_at_the_moment_itself_or_without_a_time_is_not_known() -> None:
    frame = at(NOON - SECOND, NOON, NOON + SECOND, pd.NaT)
    assert before(frame, "at", NOON).index.tolist() == [0]


@pytest.mark.parametrize("column", ["at", "said"])
def test_a_column_that_holds_no_times_is_refused_by_its_name(column: str) -> None:
    with pytest.raises(TableError, match=f"'{column}' of times"):
        before(pd.DataFrame({"said": ["x"]}), column, NOON)


def test_the_first_delivery_is_the_day_of_the_earliest() -> None:
    assert first_delivery(deliveries()) == pd.Timestamp("2026-04-06")


def test_every_delivery_counts_what_came_before_its_own_time() -> None:
    told = events(
        ("v1", NOON - SECOND, "good", 1.0), ("v1", NOON + SECOND, "good", 0.5),
        ("v1", NOON, "bad", 1.0), ("v2", NOON + SECOND, "good", 1.0),
        ("v9", NOON - SECOND, "good", 1.0),
    )  # fmt: skip
    found = sums_before(deliveries(), told)
    assert found["good"].tolist() == [1.0, 0.0, 1.5, 0.0]
    assert found["bad"].tolist() == [0.0, 0.0, 1.0, 0.0]


def test_events_without_a_column_they_need_are_refused() -> None:
    with pytest.raises(TableError, match="'amount'"):
        sums_before(deliveries(), events().drop(columns="amount"))


def test_the_expression_meets_the_same_events_on_the_engine() -> None:
    rng = np.random.default_rng(3)
    moments = pd.DataFrame(
        {
            "moment_id": range(40),
            "voter_id": rng.choice(list("abc"), 40),
            "sent_on": NOON + pd.to_timedelta(rng.integers(0, 9, 40), unit="s"),
        }
    )
    said = pd.DataFrame(
        {
            "voter_id": rng.choice(list("abcd"), 30),
            "at": NOON + pd.to_timedelta(rng.permutation(30) % 10, unit="s"),
            "what": range(30),
        }
    )
    expression = events_before(ibis.memtable(moments), ibis.memtable(said))
    met = expression.to_pandas()
    expected = {
        (m.moment_id, e.what)
        for m in moments.itertuples()
        for e in said.itertuples()
        if m.voter_id == e.voter_id and e.at < m.sent_on
    }
    assert set(zip(met["moment_id"], met["what"], strict=True)) == expected
    last = last_before(
        ibis.memtable(moments), ibis.memtable(said), key=["moment_id"]
    ).to_pandas()
    newest = met.groupby("moment_id")["at"].max()
    assert last.set_index("moment_id")["at"].sort_index().equals(newest)


def test_a_permission_stands_as_it_stood_then() -> None:
    later, earlier = NOON + SECOND, NOON - SECOND
    permissions = pd.DataFrame(
        {
            "voter_id": ["granted", "later", "stopped", "stops later", "undated"],
            "granted_at": [earlier, NOON, earlier, earlier, pd.NaT],
            "withdrawn_at": [pd.NaT, pd.NaT, earlier, NOON, later],
        }
    ).astype({"withdrawn_at": "datetime64[us]"})
    found = permissions_before(permissions, NOON).set_index("voter_id")
    assert list(found.index) == ["granted", "stopped", "stops later", "undated"]
    assert found["withdrawn_at"].notna().to_dict() == {
        "granted": False, "stopped": True, "stops later": False, "undated": False,
    }  # fmt: skip
