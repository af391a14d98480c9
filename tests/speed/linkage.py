"""Public linkage data with known truth: Splink's demo settings and ours together.

FEBRL 1-3 use the settings of Splink's demo "Deduplicating the febrl3 dataset",
fake_1000 those of "Evaluation when you have fully labelled data" (names, date of birth,
city, e-mail). RLdata10000 has no demo: it gets those of febrl3, for the columns that it
has.
The truth columns never reach a matcher.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import splink.comparison_library as cl
from splink import DuckDBAPI, Linker, SettingsCreator, block_on

from hustings.features.persons.link.fields import tidy
from hustings.features.persons.link.posterior import pair_probability
from hustings.features.persons.link.score import score_pairs

FEBRL = {
    "given_name": "first_name",
    "surname": "last_name",
    "address_1": "street",
    "suburb": "city",
    "date_of_birth": "birth_date",
    "soc_sec_id": "national_id",
}
OURS_KEEPS = [*FEBRL.values(), "street_number", "postcode", "state"]


@dataclass(frozen=True)
class DataSet:
    """Rows of people, who they are, and how a demo would match them.

    Attributes:
        name: As published.
        raw: Columns as published, without the truth.
        ours: The same named as our fields.
        truth: Person of each row.
        demo: Settings and training of Splink's demo.
        demo_threshold: At which the demo looks at its pairs.
    """

    name: str
    raw: pd.DataFrame
    ours: pd.DataFrame
    truth: pd.Series
    demo: Mapping[str, Any]
    demo_threshold: float


def _febrl_demo() -> dict[str, Any]:
    return {
        "rules": ["soc_sec_id", "given_name", "surname", "date_of_birth", "postcode"],
        "comparisons": [
            cl.NameComparison("given_name"),
            cl.NameComparison("surname"),
            cl.DateOfBirthComparison(
                "date_of_birth", input_is_string=True, datetime_format="%Y%m%d"
            ),
            cl.DamerauLevenshteinAtThresholds("soc_sec_id", [2]),
            cl.ExactMatch("street_number").configure(term_frequency_adjustments=True),
            cl.ExactMatch("postcode").configure(term_frequency_adjustments=True),
        ],
        "deterministic": [
            "l.soc_sec_id = r.soc_sec_id",
            "l.given_name = r.given_name and l.surname = r.surname and "
            "l.date_of_birth = r.date_of_birth",
            "l.given_name = r.surname and l.surname = r.given_name and "
            "l.date_of_birth = r.date_of_birth",
        ],
        "recall": 0.9,
        "em": [["date_of_birth"], ["postcode"]],
        "without_tf": False,
        "seed": 2,
    }


def febrl(folder: Path, number: int) -> DataSet:
    """FEBRL data set 1, 2 or 3."""
    rows = pd.read_parquet(folder / "linkage" / f"febrl_dataset{number}.parquet")
    truth = rows.pop("rec_id").str.extract(r"^(rec-\d+)")[0]
    ours = rows.rename(columns=FEBRL)[OURS_KEEPS]
    return DataSet(f"FEBRL {number}", rows, ours, truth, _febrl_demo(), 0.2)


def fake_1000(folder: Path) -> DataSet:
    """Splink's own fictitious people."""
    rows = pd.read_parquet(folder / "linkage" / "splink_fake_1000.parquet")
    truth = rows.pop("cluster")
    rows = rows.drop(columns="unique_id")
    demo = {
        "rules": ["first_name", "surname", "dob", "email"],
        "comparisons": [
            cl.ForenameSurnameComparison("first_name", "surname"),
            cl.DateOfBirthComparison("dob", input_is_string=False),
            cl.ExactMatch("city").configure(term_frequency_adjustments=True),
            cl.EmailComparison("email"),
        ],
        "deterministic": [
            "l.first_name = r.first_name and "
            "levenshtein(r.dob::VARCHAR, l.dob::VARCHAR) <= 1",
            "l.surname = r.surname and "
            "levenshtein(r.dob::VARCHAR, l.dob::VARCHAR) <= 1",
            "l.first_name = r.first_name and levenshtein(r.surname, l.surname) <= 2",
            "l.email = r.email",
        ],
        "recall": 0.7,
        "em": [["dob"], ["email"], ["first_name", "surname"]],
        "without_tf": True,
        "seed": 5,
    }
    raw = rows.assign(dob=pd.to_datetime(rows["dob"]))
    ours = rows.rename(columns={"surname": "last_name", "dob": "birth_date"})
    return DataSet("fake_1000", raw, ours, truth, demo, 0.5)


def rldata10000(folder: Path) -> DataSet:
    """German names and birth dates, a tenth of them twice with one error."""
    rows = pd.read_parquet(folder / "linkage" / "rldata10000.parquet")
    day = rows["bm"].str.zfill(2) + "-" + rows["bd"].str.zfill(2)
    ours = pd.DataFrame(
        {
            "first_name": rows["fname_c1"],
            "last_name": rows["lname_c1"],
            "birth_date": rows["by"] + "-" + day,
        }
    )
    demo = {
        "rules": ["first_name", "last_name", "birth_date"],
        "comparisons": [
            cl.NameComparison("first_name"),
            cl.NameComparison("last_name"),
            cl.DateOfBirthComparison("birth_date", input_is_string=True),
        ],
        "deterministic": [
            "l.first_name = r.first_name and l.last_name = r.last_name and "
            "l.birth_date = r.birth_date",
            "l.first_name = r.last_name and l.last_name = r.first_name and "
            "l.birth_date = r.birth_date",
        ],
        "recall": 0.9,
        "em": [["birth_date"], ["first_name", "last_name"]],
        "without_tf": False,
        "seed": 2,
    }
    return DataSet("RLdata10000", ours, ours, rows["identity"], demo, 0.2)


@dataclass(frozen=True)
class Judged:
    """Pairs with their probability and whether they are right.

    Attributes:
        probability: Shape (n_pairs,).
        right: Shape (n_pairs,).
        n_right: Right pairs that there are, found or not.
    """

    probability: np.ndarray
    right: np.ndarray
    n_right: int

    def f1(self, threshold: float) -> float:
        """Harmonic mean of precision and recall of the pairs at a threshold."""
        kept = self.probability >= threshold
        return float(2 * self.right[kept].sum() / (kept.sum() + self.n_right))

    def best_f1(self) -> float:
        """The same at the threshold that suits best, which only the truth tells."""
        order = np.argsort(-self.probability, kind="stable")
        right = np.cumsum(self.right[order])
        f1 = 2 * right / (np.arange(1, len(order) + 1) + self.n_right)
        return float(f1.max())


def _judged(
    data: DataSet, left: np.ndarray, right: np.ndarray, p: np.ndarray
) -> Judged:
    person = data.truth.to_numpy()
    sizes = data.truth.value_counts()
    n_right = int((sizes * (sizes - 1) // 2).sum())
    return Judged(p, person[left] == person[right], n_right)


def by_us(data: DataSet, *, seed: int = 1) -> Judged:
    """Our defaults, found from the columns."""
    scored = score_pairs(tidy(data.ours).frame, seed=seed)
    n = len(data.ours)
    p = pair_probability(scored.weight, n * (n - 1) / 2)
    return _judged(data, scored.left, scored.right, p)


def by_demo(data: DataSet) -> Judged:
    """The settings and the training of Splink's demo."""
    demo = data.demo
    plain = data.raw.astype(object).where(data.raw.notna(), None)
    if "dob" in plain:
        plain["dob"] = data.raw["dob"]
    rows = plain.assign(unique_id=np.arange(len(plain)))
    settings = SettingsCreator(
        link_type="dedupe_only",
        comparisons=list(demo["comparisons"]),
        blocking_rules_to_generate_predictions=[block_on(r) for r in demo["rules"]],
    )
    linker = Linker(DuckDBAPI().register(rows), settings, log_level=logging.ERROR)
    linker.training.estimate_probability_two_random_records_match(
        demo["deterministic"], recall=demo["recall"]
    )
    linker.training.estimate_u_using_random_sampling(max_pairs=1e6, seed=demo["seed"])
    for rule in demo["em"]:
        linker.training.estimate_parameters_using_expectation_maximisation(
            block_on(*rule), estimate_without_term_frequencies=demo["without_tf"]
        )
    pairs = linker.inference.predict(warning_mode="never").as_pandas_dataframe()
    return _judged(
        data,
        pairs["unique_id_l"].to_numpy(dtype=np.int64),
        pairs["unique_id_r"].to_numpy(dtype=np.int64),
        pairs["match_probability"].to_numpy(dtype=float),
    )
