"""What was known at a moment: strictly before it, and nothing else."""

import pandas as pd
import pytest

from hustings.features.asof import before, file_before, first_delivery
from hustings.features.tables import TableError

NOON = pd.Timestamp("2026-04-06 12:00:00")
SECOND = pd.Timedelta(seconds=1)


def at(*times: pd.Timestamp) -> pd.DataFrame:
    return pd.DataFrame({"at": pd.Series(times, dtype="datetime64[us]")})


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


def test_a_delivery_is_met_by_the_last_file_observed_strictly_before_it() -> None:
    days = [pd.Timestamp(day) for day in ("2026-04-06", "2026-03-01", "2026-04-07")]
    met = file_before(deliveries()["sent_on"], days)
    assert met.tolist() == [0, 0, 2, 0]
    midnight = pd.Series([pd.Timestamp("2026-04-06"), pd.Timestamp("2026-03-01")])
    assert file_before(midnight, days).tolist() == [1, -1]
