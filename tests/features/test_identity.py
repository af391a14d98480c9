"""Who is who from one voter file to the next, on files of a handful of people."""

from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import pytest

from hustings.features.persons.identity import (
    append,
    extend,
    former_ids,
    holdout_units,
    ids_in,
    ids_of,
    new_persons,
    nobody,
    persons_of,
    present_ids,
)
from hustings.features.tables import TableError

FIRST, SECOND, THIRD = pd.to_datetime(["2026-03-01", "2026-03-08", "2026-03-15"])


def file(**homes: str | None) -> pd.DataFrame:
    """A voter file: voter_id = household."""
    return pd.DataFrame({"voter_id": list(homes), "household_id": list(homes.values())})


def grown(
    identity: pd.DataFrame, voters: pd.DataFrame, since: Any = FIRST, **former: str
) -> pd.DataFrame:
    """The map with the file; the n-th person on file is called pn."""
    numbers = count(len(identity))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "hustings.features.persons.identity.random_persons",
            lambda n: [f"p{next(numbers)}" for _ in range(n)],
        )
        with TemporaryDirectory() as aside:
            before, added = Path(aside) / "identity.parquet", Path(aside) / "added"
            file = Path(aside) / "voters.parquet"
            voters.to_parquet(file, index=False, row_group_size=2)
            if len(identity):
                identity.to_parquet(before, index=False, row_group_size=3)
            n_added = extend(before, file, former, since=since, into=added)
            append(before, added)
            later = pd.read_parquet(before)
            assert len(later) == len(identity) + n_added
            assert set(new_persons(added)) == set(later["person"]) - set(
                identity["person"]
            )
            assert later.dtypes.to_dict() == nobody().dtypes.to_dict()
            return later


def units(
    identity: pd.DataFrame, voters: pd.DataFrame, **how: bool
) -> dict[str, set[str]]:
    found = holdout_units(identity, voters, **({"by_household": True} | how))
    return found.groupby("voter_id")["unit"].agg(set).to_dict()


BEFORE = file(a="h1", b="h1", c="h2", d=None)


def test_on_the_first_file_the_unit_is_the_present_household_or_voter() -> None:
    known = grown(nobody(), BEFORE)
    assert units(known, BEFORE) == {"a": {"h1"}, "b": {"h1"}, "c": {"h2"}, "d": {"d"}}
    alone = units(known, BEFORE, by_household=False)
    assert alone == {v: {v} for v in "abcd"}


def test_a_move_changes_neither_person_nor_unit() -> None:
    known = grown(nobody(), BEFORE)
    moved = file(a="h2", b="h1", c="h2", d="h1")
    later = grown(known, moved, SECOND)
    pd.testing.assert_frame_equal(later, known)
    assert units(later, moved) == units(known, BEFORE)


def test_the_parts_of_a_split_household_keep_its_unit() -> None:
    known = grown(nobody(), BEFORE)
    split = file(a="h8", b="h9", c="h2", d=None)
    assert units(grown(known, split, SECOND), split)["a"] == {"h1"}
    assert units(grown(known, split, SECOND), split)["b"] == {"h1"}


def test_who_joins_a_household_joins_its_unit() -> None:
    known = grown(nobody(), BEFORE)
    joined = file(a="h1", b="h1", c="h2", d=None, e="h1")
    assert units(grown(known, joined, SECOND), joined)["e"] == {"h1"}


def test_who_joins_a_household_with_a_new_number_joins_its_old_unit() -> None:
    known = grown(nobody(), BEFORE)
    numbered_anew = file(a="h7", b="h7", c="h2", d=None, e="h7")
    assert units(grown(known, numbered_anew, SECOND), numbered_anew)["e"] == {"h1"}


def test_a_mover_does_not_bring_the_unit_along_to_those_who_join_later() -> None:
    known = grown(nobody(), BEFORE)
    joined = file(a="h2", b="h1", c="h2", d=None, e="h2")
    assert units(grown(known, joined, SECOND), joined)["e"] == {"h2"}


def test_a_new_id_is_the_person_it_was() -> None:
    known = grown(nobody(), BEFORE)
    now = file(z="h5", b="h1", c="h2", d=None)
    later = grown(known, now, SECOND, a="z")
    assert units(later, now)["z"] == {"h1"}
    assert persons_of(later, frozenset("z")) == persons_of(known, frozenset("a"))
    row = later[later["voter_id"] == "z"].iloc[0]
    assert (row["reason"], row["former_id"], row["since"]) == ("renamed", "a", SECOND)


def test_two_persons_merged_into_one_are_both() -> None:
    known = grown(nobody(), BEFORE)
    now = file(b="h1", c="h2", d=None)
    later = grown(known, now, SECOND, a="c")
    assert units(later, now)["c"] == {"h1", "h2"}
    assert persons_of(later, frozenset("c")) == persons_of(known, frozenset("ac"))


def test_the_same_file_again_adds_nothing() -> None:
    known = grown(nobody(), BEFORE)
    merged = file(b="h1", c="h2", d=None)
    later = grown(known, merged, SECOND, a="c")
    pd.testing.assert_frame_equal(grown(later, merged, THIRD, a="c"), later)


def test_every_id_that_a_person_ever_had_is_found_from_any() -> None:
    known = grown(nobody(), BEFORE)
    known = grown(known, file(x="h1", b="h1", c="h2", d=None), SECOND, a="x")
    known = grown(known, file(y="h1", b="h1", c="h2", d=None), THIRD, a="y", x="y")
    for one in "axy":
        assert ids_of(known, one) == frozenset("axy")
    assert ids_of(known, "b") == frozenset("b")
    assert ids_of(known, "nobody") == frozenset({"nobody"})


def test_who_joins_strangers_joins_the_unit_that_most_of_them_began_in() -> None:
    known = grown(nobody(), file(a="h1", b="h2", c="h2", d="h0", g=None))
    moved = file(a="h7", b="h7", c="h7", d="h7", e="h7", f=None)
    assert units(grown(known, moved, SECOND), moved)["e"] == {"h2"}
    even = file(a="h7", b="h7", g="h7", e="h7")
    assert units(grown(known, even, SECOND), even)["e"] == {"h1"}


def test_without_households_the_unit_is_the_voter() -> None:
    alone = BEFORE.drop(columns="household_id")
    known = grown(nobody(), alone)
    assert units(grown(known, file(z="h1"), SECOND, a="z"), file(z="h1")) == {
        "z": {"a"}
    }


def test_former_ids_and_ids_in_a_file_are_looked_up_on_disk(tmp_path: Path) -> None:
    path = tmp_path / "identity.parquet"
    assert former_ids(path) == {}
    now = file(x="h1", b="h1", c="h2", d=None)
    grown(grown(nobody(), BEFORE), now, SECOND, a="x").to_parquet(path)
    assert former_ids(path) == {"a": "x"}
    assert ids_in(path, ["a", "q", "x"]) == {"a", "x"}
    assert ids_in(path, []) == set()


def test_ids_that_became_each_other_in_a_circle_are_refused() -> None:
    with pytest.raises(TableError, match="circle through"):
        present_ids({"a": "b", "b": "a"})
