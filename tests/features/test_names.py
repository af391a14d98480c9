"""Names as people write them: hand-worked."""

import pandas as pd
import pytest

from hustings.features.persons.names import (
    NICKNAMES,
    plain_name,
    plain_names,
    root_names,
    split_names,
)


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("  MÜLLER-Lüdenscheidt ", "muller ludenscheidt"),
        ("O'Brien", "obrien"),
        ("Łuczak", "luczak"),
        ("Nguyễn", "nguyen"),
        ("J. R.", "j r"),
        ("1234", ""),
    ],
)
def test_case_accents_and_punctuation_go(written: str, plain: str) -> None:
    assert plain_name(written) == plain


def test_a_name_without_letters_is_missing() -> None:
    found = plain_names(pd.Series(["Ann", "???", None], dtype="str"))
    assert found.isna().tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("whole", "first", "last"),
    [
        ("Dr. Ann Mary Lee Jr.", "ann mary", "lee"),
        ("Lee, Ann", "ann", "lee"),
        ("Ann Lee, PhD", "ann", "lee"),
        ("de la Cruz, María", "maria", "de la cruz"),
        ("D. Lee", "d", "lee"),
        ("Ann Hon", "ann", "hon"),
        ("Md Rahman", "md", "rahman"),
        ("Lee, Rev. Ann", "ann", "lee"),
        ("Na, Ann", "ann", "na"),
    ],
)
def test_whole_names_are_split_as_they_are_meant(
    whole: str, first: str, last: str
) -> None:
    found = split_names(pd.Series([whole])).iloc[0]
    assert (found["first_name"], found["last_name"]) == (first, last)


def test_nicknames_meet_their_names_and_no_nickname_is_short_for_another() -> None:
    assert set(root_names(pd.Series(["bob", "rob", "robert"]))) == {"robert"}
    assert not set(NICKNAMES) & set(NICKNAMES.values())
