"""Blocking rules: the coarsest whose candidate pairs are few enough to score.

A rule says which fields must agree for a pair to be compared at all. Single fields are
tried first, then two together, then three: a field that alone makes too many pairs
(sex, a year) is taken with others until it does not.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import pandas as pd

from hustings.features.persons.link.fields import FIELDS, ROOT

Rule = tuple[str, ...]

NAME_START = "last_start"
"""The first letters of a last name: most slips of the pen come later."""
N_START = 4
BIRTH_YEAR = "year_of_birth"
"""The year of a birth date: a day may be wrong, a year less often."""
MIN_BUDGET = 300_000
PAIRS_A_PERSON = 20
"""A rule may make so many pairs for each person of the larger file."""
LEAST_LEARNT, MOST_LEARNT = 0.01, 200
"""Pairs for each person of the smaller file that a rule to learn from makes."""


def with_blocking_columns(frame: pd.DataFrame) -> pd.DataFrame:
    """The identities with the columns that only serve to find pairs."""
    blocking_columns = {}
    if "last_name" in frame:
        blocking_columns[NAME_START] = frame["last_name"].str[:N_START]
    if "birth_date" in frame:
        year = frame["birth_date"].str[:4]
        known = frame.get("birth_year", year)
        blocking_columns[BIRTH_YEAR] = year.fillna(known)
    return frame.assign(**blocking_columns)


def pair_budget(n_left: int, n_right: int) -> int:
    """How many pairs one rule may make."""
    return max(MIN_BUDGET, PAIRS_A_PERSON * max(n_left, n_right))


def blocking_rules(left: pd.DataFrame, right: pd.DataFrame) -> list[Rule]:
    """Rules found from the columns that both files have, the coarsest that fit.

    Args:
        left: Tidied identities with blocking columns.
        right: The same of the other file; the same frame to find duplicates.
    """
    budget = pair_budget(len(left), len(right))
    chosen: list[Rule] = []
    for rule in _candidates([str(c) for c in left if c in right]):
        implied = any(_implies(rule, coarser) for coarser in chosen)
        if not implied and n_pairs(left, right, rule) <= budget:
            chosen.append(rule)
    return chosen


_COARSER = {"first_name": ROOT, "last_name": NAME_START, "birth_date": BIRTH_YEAR}
"""Who agrees on the first agrees on the second."""
_SAME = [{"first_name", ROOT}, {"last_name", NAME_START},
         {"birth_date", BIRTH_YEAR, "birth_year"}]  # fmt: skip


def _implies(rule: Rule, coarser: Rule) -> bool:
    """Whether every pair of a rule is one of a coarser rule too."""
    agreed = set(rule) | {_COARSER[c] for c in rule if c in _COARSER}
    return set(coarser) <= agreed


def _candidates(columns: Sequence[str]) -> Iterator[Rule]:
    """Single columns, then two, then three, the coarser first."""
    usable = [c for c in columns if FIELDS.get(c, "name") != "key"]
    usable.sort(key=lambda c: c in _COARSER)
    for size in (1, 2, 3):
        for rule in combinations(usable, size):
            if not _twice(rule):
                yield rule


def n_pairs(left: pd.DataFrame, right: pd.DataFrame, rule: Rule) -> int:
    """Pairs that agree on every column of a rule."""
    key = list(rule)
    ours = left[key].dropna().value_counts()
    if left is right:
        return int((ours * (ours - 1) // 2).sum())
    theirs = right[key].dropna().value_counts()
    return int((ours * theirs.reindex(ours.index, fill_value=0)).sum())


def training_rules(left: pd.DataFrame, right: pd.DataFrame) -> list[Rule]:
    """Rules to learn from: whole fields, and no field is held equal in all of them.

    What a rule holds equal cannot be learnt from its pairs, so that another rule has to
    leave it free. The fewer fields a rule holds equal, the less it selects people who
    made their mistakes elsewhere, so that single fields come first; but of too many
    pairs too few are matches to learn from.

    Args:
        left: Tidied identities.
        right: The same of the other file; the same frame to find duplicates.
    """
    people = min(len(left), len(right))
    shared_fields = [str(c) for c in left if c in right and c in FIELDS]
    usable = [c for c in shared_fields if FIELDS[c] != "key"]
    chosen: list[Rule] = []
    held = set(usable)
    for size in (1, 2, 3):
        rules = [r for r in combinations(usable, size) if not _twice(r)]
        counted = sorted((n_pairs(left, right, rule), rule) for rule in rules)
        for n, rule in counted:
            enough = LEAST_LEARNT * people <= n <= MOST_LEARNT * people
            if n > 0 and enough and not held <= set(rule):
                chosen.append(rule)
                held &= set(rule)
            if not held and chosen:
                return chosen
    return chosen


def _twice(rule: Rule) -> bool:
    """Whether a rule holds two spellings of one thing equal."""
    return any(len(one & set(rule)) > 1 for one in _SAME)
