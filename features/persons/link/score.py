"""Match weights of candidate pairs: the Fellegi-Sunter model, fitted by Splink.

For a pair and a field, m is the chance of what is seen if both are one person and u if
they are two; the weight of evidence is Σ log2(m / u) over the fields, with a rare name
counting for more than a common one (term frequencies). u comes from random pairs, m by
expectation maximisation: nobody says which pairs are right. DuckDB, in memory alone.

Source: Fellegi & Sunter (1969); Winkler (2006); Splink 5 (Linacre et al. 2022).
"""

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow
import splink.comparison_level_library as cll
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

from hustings.features.arrays import Floats, Ints
from hustings.features.persons.link.blocking import (
    BIRTH_YEAR,
    Rule,
    blocking_rules,
    n_pairs,
    pair_budget,
    training_rules,
    with_blocking_columns,
)
from hustings.features.persons.link.fields import (
    FIELDS,
    NEARLY_UNIQUE,
    ROOT,
    known_fields,
)

PRIOR = 0.001
"""Taken out of Splink's weights again: the share of matches is found afterwards."""
U_PAIRS_A_PERSON, MIN_U_PAIRS, MAX_U_PAIRS = 3, 500_000, 3_000_000
"""Random pairs that u is counted on: more people, more values that seldom agree."""
EM_PAIRS = 1e6
SHARED = 0.05
"""Share of people whose telephone or e-mail is somebody else's too, who may be in no
file under it: a couple, a parent."""
LEAST_WEIGHT = -10.0
"""Weights below are as good as none, and are not kept."""


@dataclass(frozen=True)
class Scored:
    """Candidate pairs and the evidence for each.

    Attributes:
        left: Row in the left file, shape (n_pairs,).
        right: Row in the right file, shape (n_pairs,).
        weight: Evidence in bits, log2 of the likelihood ratio, shape (n_pairs,).
        rules: By which pairs were found.
        learnt_from: Rules whose pairs m was learnt from.
    """

    left: Ints
    right: Ints
    weight: Floats
    rules: tuple[Rule, ...]
    learnt_from: tuple[Rule, ...]


def score_pairs(
    left: pd.DataFrame,
    right: pd.DataFrame | None = None,
    *,
    rules: Sequence[Rule] = (),
    seed: int,
) -> Scored:
    """Pairs of two files, or of one with itself, with the evidence for each.

    Args:
        left: Tidied identities.
        right: Of the other file; None to look for duplicates within one.
        rules: Which pairs to look at; found from the columns without.
        seed: Of the random pairs.
    """
    ours = with_blocking_columns(left).reset_index(drop=True)
    theirs = ours if right is None else with_blocking_columns(right)
    theirs = theirs.reset_index(drop=True)
    if right is None:
        theirs = ours
    fields = _distinguishing_fields(ours, theirs)
    by_itself = [] if right is None else _rules_by_themselves(ours, theirs, fields)
    chosen = list(rules) or blocking_rules(ours, theirs)
    chosen += [rule for rule in by_itself if rule not in chosen]
    learnt_from = training_rules(ours, theirs) if chosen else []
    if not learnt_from and not by_itself:
        none = np.empty(0, dtype=np.int64)
        return Scored(none, none, none.astype(float), tuple(chosen), ())
    pairs = _predicted(
        ours, None if right is None else theirs, fields, chosen, learnt_from, seed=seed
    )
    order = np.lexsort((pairs["r"], pairs["l"]))
    weight = pairs["weight"].to_numpy(dtype=np.float64)[order]
    return Scored(
        pairs["l"].to_numpy(dtype=np.int64)[order],
        pairs["r"].to_numpy(dtype=np.int64)[order],
        # engines add in any order: what differs after the ninth place is noise
        np.round(weight - np.log2(PRIOR / (1 - PRIOR)), 9),
        tuple(chosen),
        tuple(learnt_from),
    )


def _rules_by_themselves(
    ours: pd.DataFrame, theirs: pd.DataFrame, fields: Sequence[str]
) -> list[Rule]:
    """Rules of the fields that find people whatever else was given, within the budget.

    They need nothing to be learnt: what an agreement is worth is known beforehand.
    """
    rules: list[Rule] = [(field,) for field in fields if field in NEARLY_UNIQUE]
    budget = pair_budget(len(ours), len(theirs))
    return [rule for rule in rules if 0 < n_pairs(ours, theirs, rule) <= budget]


def _distinguishing_fields(ours: pd.DataFrame, theirs: pd.DataFrame) -> list[str]:
    """Fields that both files have and that distinguish people."""
    shared = [f for f in known_fields(ours) if f in theirs and FIELDS[f] != "key"]
    if {"birth_date", "birth_year"} <= set(shared):
        shared.remove("birth_year")  # the date says it too
    return [f for f in shared if ours[f].nunique() + theirs[f].nunique() > 2]


def _predicted(
    left: pd.DataFrame,
    right: pd.DataFrame | None,
    fields: Sequence[str],
    rules: Sequence[Rule],
    learnt_from: Sequence[Rule],
    *,
    seed: int,
) -> pd.DataFrame:
    """Splink's pairs: l, r (row numbers) and weight, its prior still in it."""
    settings = SettingsCreator(
        link_type="dedupe_only" if right is None else "link_only",
        unique_id_column_name="row_id",
        comparisons=[comparison(field, left, right) for field in fields],
        blocking_rules_to_generate_predictions=[block_on(*rule) for rule in rules],
        probability_two_random_records_match=PRIOR,
        retain_matching_columns=False,
    )
    # identities never reach a disk, not even as a spilt table
    connection = duckdb.connect(":memory:", config={"temp_directory": ""})
    try:
        connection.execute("set enable_progress_bar = false")
        api = DuckDBAPI(connection=connection)
        linker = Linker(
            [_registered(api, frame, name) for frame, name in
             ((left, "l"), (right, "r")) if frame is not None],
            settings, log_level=logging.ERROR,
        )  # fmt: skip
        linker.training.estimate_u_using_random_sampling(
            max_pairs=_n_random_pairs(left, right), seed=seed,
            min_count_per_level=None, num_chunks=1,
        )  # fmt: skip
        for rule in learnt_from:
            _learn(linker, rule)
        scored = linker.inference.predict(
            threshold_match_weight=LEAST_WEIGHT + np.log2(PRIOR), warning_mode="never"
        )
        pairs: pd.DataFrame = connection.sql(
            f"select row_id_l as l, row_id_r as r, match_weight as weight "
            f"from {scored.physical_name}"
        ).df()
        return pairs
    finally:
        connection.close()


def _learn(linker: Linker, rule: Rule) -> None:
    """Learn from the pairs that agree on a rule, as far as they teach anything."""
    try:
        linker.training.estimate_parameters_using_expectation_maximisation(
            block_on(*rule), estimate_without_term_frequencies=True, max_pairs=EM_PAIRS
        )
    except ValueError as failure:
        # in a small file no match may be of some level: its chance runs to nothing,
        # which Splink refuses; what the other rules taught stays
        if "below the minimum allowed value" not in str(failure):
            raise


def _n_random_pairs(left: pd.DataFrame, right: pd.DataFrame | None) -> int:
    larger = max(len(left), 0 if right is None else len(right))
    return int(np.clip(U_PAIRS_A_PERSON * larger, MIN_U_PAIRS, MAX_U_PAIRS))


def _registered(api: Any, frame: pd.DataFrame, name: str) -> Any:
    copies = {f"other_{c}": frame[c] for c in ("first_name", "last_name") if c in frame}
    rows = frame.assign(row_id=np.arange(len(frame)), **copies)
    table = pyarrow.Table.from_pandas(rows, preserve_index=False)
    return api.register(table, dataset_display_name=name)


def comparison(field: str, left: pd.DataFrame, right: pd.DataFrame | None) -> Any:
    """How two values of a field may agree, from exactly to not at all.

    Args:
        field: One of `FIELDS`.
        left: Identities with blocking columns.
        right: Of the other file; None within one.
    """
    frames = [left] if right is None else [left, right]
    if FIELDS[field] == "date" and any(_years_alone(frame) for frame in frames):
        levels = [cll.NullLevel(BIRTH_YEAR), *_date_levels(field, with_years=True)]
    else:
        levels = [cll.NullLevel(field), *_levels(field, left, right)]
    return cl.CustomComparison(
        output_column_name=field, comparison_levels=[*levels, cll.ElseLevel()]
    )


def _levels(
    field: str, left: pd.DataFrame, right: pd.DataFrame | None
) -> Iterable[Any]:
    kind = FIELDS[field]
    exact = cll.ExactMatchLevel(field)
    rare: Any = cll.ExactMatchLevel(field, term_frequency_adjustments=True)
    if right is not None and field in NEARLY_UNIQUE:
        chance = _chance_agreement(right[field])
        rare = exact.configure(u_probability=chance, fix_u_probability=True)
    if kind == "name":
        yield rare
        if field == "first_name":
            yield cll.ExactMatchLevel(ROOT)
        if {"first_name", "last_name"} <= set(left):
            yield _swapped()
        for near in (0.92, 0.85, 0.7):
            yield cll.JaroWinklerLevel(field, near)
    elif kind == "text":
        yield rare
        yield from (cll.JaroWinklerLevel(field, near) for near in (0.92, 0.8))
    elif kind in ("code", "phone"):
        yield rare
        yield from (cll.DamerauLevenshteinLevel(field, n) for n in (1, 2))
    elif kind == "email":
        yield rare
        yield from cl.EmailComparison(field).create_comparison_levels()[2:-1]
    elif kind == "date":
        yield from _date_levels(field, with_years=False)
    elif kind == "year":
        yield exact
        apart = f"abs(try_cast({field}_l as int) - try_cast({field}_r as int))"
        yield cll.CustomLevel(f"{apart} <= 1", "a year off")
    else:
        yield rare


def _chance_agreement(values: pd.Series) -> float:
    """The chance that two different people have one value of a nearly unique field.

    As often as within the file, of whose rows no two are one person, and at least as
    often as people share theirs. Random pairs of two files say less: those that agree
    are mostly one person, however few they are.
    """
    counts = values.dropna().value_counts().to_numpy(dtype=np.float64)
    n = max(float(counts.sum()), 2.0)
    within = float((counts * (counts - 1)).sum()) / (n * (n - 1))
    return float(np.clip(max(within, SHARED / n), 1e-12, 0.5))


def _years_alone(frame: pd.DataFrame) -> bool:
    """Whether of somebody only the year of birth is known."""
    return bool((frame["birth_date"].isna() & frame[BIRTH_YEAR].notna()).any())


def _date_levels(field: str, *, with_years: bool) -> Iterable[Any]:
    """Levels of a date; where only years are known of some, of a year by itself."""
    yield cll.ExactMatchLevel(field)
    yield from (cll.DamerauLevenshteinLevel(field, n) for n in (1, 2))
    same_year = f"{BIRTH_YEAR}_l = {BIRTH_YEAR}_r"
    if with_years:
        both = f"{field}_l is not null and {field}_r is not null"
        yield cll.CustomLevel(f"{both} and {same_year}", "same year")
        yield cll.CustomLevel(f"not ({both}) and {same_year}", "same year, no day")
        yield cll.CustomLevel(f"not ({both})", "another year, no day")
    else:
        yield cll.CustomLevel(same_year, "same year")


def _swapped() -> Any:
    """First and last name in each other's place."""
    return cll.CustomLevel(
        "other_first_name_l = other_last_name_r and "
        "other_last_name_l = other_first_name_r",
        "first and last name swapped",
    )
