"""Reactors linked to voters: planted people, hand-worked odds, and the guardrails."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

from hustings.features.ingest import TableSource
from hustings.features.persons.link import (
    KeyCheck,
    Linked,
    blocking,
    link_reactors,
    score,
)
from hustings.features.persons.link.blocking import (
    blocking_rules,
    n_pairs,
    training_rules,
    with_blocking_columns,
)
from hustings.features.persons.link.fields import tidy
from hustings.features.persons.link.matched import (
    aggregate_reactions,
    has_basis,
    kept_events,
    linkable,
)
from hustings.features.persons.link.posterior import (
    pair_probability,
    person_probability,
    right_share,
)
from hustings.features.persons.linked_reactions import (
    with_linked_reactions,
)
from hustings.features.simulated.campaign import Sample, simulate
from hustings.features.tables import REACTIONS, TableError, check
from hustings.features.voter import Encoding
from hustings.training.registry.campaign_model import Reader

# --- one spelling ---------------------------------------------------------------------


def test_values_that_no_field_can_have_are_missing_and_counted() -> None:
    raw = pd.DataFrame(
        {
            "birth_date": ["19081209", "1908-02-30", "2099-01-01", None],
            "postcode": ["SW1A 1AA", "00000", "nowhere", "48104-1234"],
            "birth_year": ["1967.0", "67", "x", None],
            "email_sha256": ["a" * 64, "A" * 64, "abc", None],
        }
    )
    found = tidy(raw)
    assert found.bad == {
        "birth_date": 2, "birth_year": 2, "postcode": 2, "email_sha256": 1,
    }  # fmt: skip
    assert found.frame["birth_date"].dropna().tolist() == ["1908-12-09"]
    assert found.frame["postcode"].dropna().tolist() == ["sw1a1aa", "481041234"[:5]]
    assert found.frame["email_sha256"].dropna().tolist() == ["a" * 64] * 2


def test_people_have_names_that_stand_for_nothing_elsewhere() -> None:
    names = ["Na", "NULL", "None", "Nan", "True", "Nil", "N/A", "unknown", "-", None]
    found = tidy(pd.DataFrame({"last_name": names, "city": names}))
    plain = ["na", "null", "none", "nan", "true", "nil"]
    assert found.frame["last_name"].dropna().tolist() == plain
    assert found.frame["city"].dropna().tolist() == ["true"]
    assert found.bad == {"last_name": 3, "city": 8}
    whole = tidy(pd.DataFrame({"name": ["Ann Na", "Null, Bo", "N/A"]}))
    assert whole.frame["last_name"].fillna("").tolist() == ["na", "null", ""]
    assert whole.bad == {"name": 1}


def test_every_valid_date_is_one_however_long_ago() -> None:
    raw = pd.DataFrame(
        {"birth_date": ["1788-02-29", "14920101", "1980-05-31T00:00:00", "1985/07/04",
                        "1900-02-29", "2068-05-31", "05/31/1980", "1900-01-01"],
         "birth_year": [1788, 1492, 1980.0, "1985", 33, 2068, "x", 1900]}
    )  # fmt: skip
    found = tidy(raw)
    assert found.frame["birth_date"].dropna().tolist() == [
        "1788-02-29", "1492-01-01", "1980-05-31", "1985-07-04", "1900-01-01",
    ]  # fmt: skip
    assert found.bad == {"birth_date": 3, "birth_year": 3}


# --- which pairs ----------------------------------------------------------------------


def test_pairs_are_counted_as_a_join_counts_them() -> None:
    rng = np.random.default_rng(1)
    left = pd.DataFrame({"a": rng.integers(3, size=50), "b": rng.integers(4, size=50)})
    right = pd.DataFrame({"a": rng.integers(3, size=30), "b": rng.integers(4, size=30)})
    assert n_pairs(left, right, ("a", "b")) == len(left.merge(right, on=["a", "b"]))


def test_no_rule_passes_its_budget_and_none_repeats_a_coarser_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rng = np.random.default_rng(2)
    names = [f"{a}{b}{c}er" for a in "bcdfgh" for b in "aeiou" for c in "lmnrst"]
    people = pd.DataFrame(
        {
            "first_name": rng.choice(names, 3_000),
            "last_name": rng.choice(names, 3_000),
            "birth_year": rng.integers(1930, 2005, 3_000).astype(str),
        }
    )
    frame = with_blocking_columns(tidy(people).frame)
    monkeypatch.setattr(blocking, "pair_budget", lambda *_: 5_000)
    rules = blocking_rules(frame, frame)
    assert rules
    assert max(n_pairs(frame, frame, rule) for rule in rules) <= 5_000
    assert not any(
        set(one) < set(other) for one in rules for other in rules if one != other
    )


def test_no_field_is_held_equal_in_all_rules_that_are_learnt_from() -> None:
    rng = np.random.default_rng(3)
    people = pd.DataFrame(
        {
            "first_name": rng.choice(["ann", "bo", "cy", "di", "ed"], 2_000),
            "last_name": [
                f"n{chr(97 + i % 26)}{chr(97 + i % 23)}" for i in range(2_000)
            ],
            "birth_year": rng.integers(1930, 2005, 2_000).astype(str),
        }
    )
    frame = tidy(people).frame
    rules = training_rules(frame, frame)
    assert not set.intersection(*(set(rule) for rule in rules))
    for rule in rules:
        assert 20 <= n_pairs(frame, frame, rule) <= 400_000


# --- odds -----------------------------------------------------------------------------


def test_two_namesakes_share_what_is_one_persons() -> None:
    """Two voters with the same evidence: each at most a half, and half each by hand.

    With weights that are large both have r / (2 r) = .5; by themselves both were ~1.
    """
    p, _ = person_probability(np.array([0, 0]), np.array([30.0, 30.0]), 1, 100)
    np.testing.assert_allclose(p, [0.5, 0.5], atol=1e-4)
    alone = pair_probability(np.array([30.0, 30.0]), 100)
    assert alone.min() > 0.99


def test_probabilities_are_calibrated_where_evidence_is_drawn_by_its_own_law() -> None:
    """Planted: 60 % of 2,000 people are in a file of 500; weights N(±2·ln2·s²/2, s²).

    A weight w in nats with N(v/2, v) if right and N(−v/2, v) if wrong is its own
    log likelihood ratio.
    """
    rng = np.random.default_rng(3)
    n, n_file, variance = 2_000, 500, 14.0
    there = rng.random(n) < 0.6
    own = rng.normal(variance / 2, np.sqrt(variance), n)
    other = rng.normal(-variance / 2, np.sqrt(variance), (n, n_file - 1))
    own = np.where(there, own, rng.normal(-variance / 2, np.sqrt(variance), n))
    weight = np.column_stack([own, other]) / np.log(2)
    left = np.repeat(np.arange(n), n_file)
    p, share = person_probability(left, weight.ravel(), n, n_file)
    right = np.zeros_like(weight)
    right[:, 0] = there
    assert share == pytest.approx(0.6, abs=0.04)
    for low, high in ((0.2, 0.5), (0.5, 0.8), (0.8, 1.0)):
        at = (p >= low) & (p < high)
        se = np.sqrt(p[at].mean() * (1 - p[at].mean()) / at.sum())
        assert p[at].mean() == pytest.approx(right.ravel()[at].mean(), abs=4 * se)


def test_a_key_is_doubted_where_the_other_fields_contradict_it() -> None:
    p = right_share(np.array([12.0] * 50 + [-10.0]))
    assert p[:50].min() > 0.999
    assert p[50] < 0.1


# --- linkage --------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    sample: Sample
    reactors: pd.DataFrame
    found: Linked
    truth: pd.Series


@pytest.fixture(scope="module")
def few_random_pairs() -> Iterator[None]:
    """A quarter of a second in the place of two for every linkage."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(score, "MIN_U_PAIRS", 100_000)
        yield


@pytest.fixture(scope="module")
def case(few_random_pairs: None) -> Case:  # noqa: ARG001 - for its effect
    """8,000 voters whose reactors wrote back, opted in or signed up."""
    sample = simulate(n_voters=8_000, seed=4)
    reactions = sample.tables["reactions"]
    reactors = linkable(reactions, ["consent", "contract", "reply"])
    who = sample.links.merge(reactions[["reaction_id", "person"]], on="reaction_id")
    truth = who.drop_duplicates("person").set_index("person")["voter_id"]
    found = link_reactors(reactors, sample.identities, seed=1)
    return Case(sample, reactors, found, truth)


def test_links_are_right_as_often_as_they_say(case: Case) -> None:
    links, summary = case.found.links, case.found.summary
    right = links["voter_id"] == links["reaction_person"].map(case.truth)
    n_false = int((~right).sum())
    there = case.reactors["reaction_person"].map(case.truth).notna().sum()
    missed = int(there - right.sum())
    assert right.mean() > 0.9
    assert abs(n_false - summary.expected_false) < 4 * np.sqrt(n_false + 10)
    assert abs(missed - summary.expected_missed) < 4 * np.sqrt(missed + 10)
    assert summary.n_by_key + summary.n_by_fields == len(links)
    assert summary.check is None or summary.check.found > 0.9


def test_keys_come_first_and_name_their_voter(case: Case) -> None:
    links = case.found.links.query("linked_by == 'key'")
    email = case.reactors.set_index("reaction_person")["email_sha256"]
    file = case.sample.identities.set_index("voter_id")["email_sha256"]
    ours = links["reaction_person"].map(email).to_numpy()
    np.testing.assert_array_equal(ours, links["voter_id"].map(file).to_numpy())
    assert len(links) == case.found.summary.n_by_key > 5


def test_one_seed_makes_one_result(case: Case) -> None:
    again = link_reactors(case.reactors, case.sample.identities, seed=1)
    pd.testing.assert_frame_equal(again.links, case.found.links, check_exact=True)


def test_a_person_of_the_links_has_one_voter_and_at_least_the_threshold(
    case: Case,
) -> None:
    links = case.found.links
    assert not links["reaction_person"].duplicated().any()
    assert links["probability"].min() >= 0.5


N_FILE, N_LOOKED_FOR = 400, 40


def planted(columns: str) -> pd.DataFrame:
    """People of a file, with the columns that are named; row i is the i-th person."""
    rng = np.random.default_rng(6)
    parts = ["bar", "tov", "lem", "kes", "zel", "dor", "fen", "yar", "oss", "mir"]
    i = np.arange(N_FILE)
    year = rng.integers(1940, 2005, N_FILE)
    day = [f"{y}-{k % 12 + 1:02}-{k % 28 + 1:02}" for k, y in zip(i, year, strict=True)]
    mail = [f"Person{k}@mail.example" for k in i]
    hashes = [hashlib.sha256(text.lower().encode()).hexdigest() for text in mail]
    people = {
        "first_name": ["".join(rng.choice(parts, 2)) for _ in i],
        "last_name": ["".join(rng.choice(parts, 3)) for _ in i],
        "birth_date": day, "birth_year": year.astype(float),
        "email": mail, "email_sha256": hashes, "phone": [f"+1650555{k:04}" for k in i],
        "declared_id": [f"NC-{k:07}" for k in i],
    }  # fmt: skip
    return pd.DataFrame(people)[columns.split()]


@pytest.mark.parametrize(
    ("given", "on_file", "fields"),
    [
        ("phone", "phone", None),
        ("phone", "phone first_name last_name birth_date", ["phone"]),
        ("email", "email", None),
        ("email", "email_sha256", None),
        ("email_sha256", "email", ["email"]),
        ("declared_id", "declared_id", None),
        ("first_name last_name birth_year", "first_name last_name birth_date", None),
        ("first_name last_name birth_date", "first_name last_name birth_year",
         ["last_name", "first_name", "birth_date"]),
        ("first_name last_name birth_year birth_date",
         "first_name last_name birth_date", None),
    ],
)  # fmt: skip
def test_fields_that_say_the_same_find_people(
    few_random_pairs: None,  # noqa: ARG001 - for its effect
    given: str,
    on_file: str,
    fields: list[str] | None,
) -> None:
    """40 of 400 are looked for, by what they gave, written otherwise than on file."""
    looked_for = planted(given).head(N_LOOKED_FOR)
    if given == "phone":
        looked_for["phone"] = [
            f"({d[:3]}) {d[3:6]}-{d[6:]}" if i % 2 else f"1 {d[:3]}.{d[3:6]}.{d[6:]}"
            for i, d in enumerate(looked_for["phone"].str[2:])
        ]
    if given == "declared_id":
        looked_for["declared_id"] = looked_for["declared_id"].str.lower()
    if "birth_date" in given and "birth_year" in given:
        # some gave the day, some the year alone
        of_day = np.arange(N_LOOKED_FOR) % 2 == 0
        looked_for["birth_date"] = looked_for["birth_date"].where(of_day)
        looked_for["birth_year"] = looked_for["birth_year"].mask(of_day)
    found = link_reactors(
        looked_for.assign(reaction_person=looked_for.index.astype(str)),
        planted(on_file).assign(voter_id=np.arange(N_FILE).astype(str)),
        fields=fields, seed=1,
    )  # fmt: skip
    assert (found.links["reaction_person"] == found.links["voter_id"]).all()
    assert len(found.links) >= N_LOOKED_FOR - 2
    assert found.summary.expected_false < 3


def test_a_telephone_that_a_family_shares_finds_whose_name_it_is(
    few_random_pairs: None,  # noqa: ARG001 - for its effect
) -> None:
    """Of eight the telephone is on file as the partner's, and theirs is missing."""
    file = planted("first_name last_name birth_date phone")
    file["voter_id"] = np.arange(N_FILE).astype(str)
    looked_for = file.head(N_LOOKED_FOR).rename(columns={"voter_id": "reaction_person"})
    file.loc[:7, "phone"] = None
    file.loc[N_LOOKED_FOR : N_LOOKED_FOR + 7, "phone"] = looked_for["phone"][
        :8
    ].to_numpy()
    found = link_reactors(looked_for, file, seed=1)
    assert (found.links["reaction_person"] == found.links["voter_id"]).all()
    assert len(found.links) >= N_LOOKED_FOR - 2


def test_a_threshold_below_a_half_and_repeated_people_are_refused(case: Case) -> None:
    file = case.sample.identities
    with pytest.raises(TableError, match=r"expected a threshold in \[0.5, 1\)"):
        link_reactors(case.reactors, file, threshold=0.4, seed=1)
    with pytest.raises(TableError, match="one row for each voter_id"):
        link_reactors(case.reactors, pd.concat([file, file.head(3)]), seed=1)


def test_nobody_to_link_makes_no_link(case: Case) -> None:
    nobody = linkable(case.sample.tables["reactions"], [])
    found = link_reactors(nobody, case.sample.identities, seed=1)
    assert found.links.empty
    assert found.summary.expected_false == 0


def test_the_error_of_a_probability_is_its_miss_and_its_noise_together() -> None:
    """Missed by .03 with a standard error of .04: .05 together, of .9."""
    found = KeyCheck(n=100, expected=0.9, found=0.93, se=0.04)
    assert found.relative_error == pytest.approx(0.05 / 0.9)


# --- guardrails -----------------------------------------------------------------------


def reactions_of(n: int, **columns: object) -> pd.DataFrame:
    """n people who liked message m, of one place and age unless said otherwise."""
    rows = pd.DataFrame(
        {
            "reaction_id": [f"r{i}" for i in range(n)],
            "message_id": "m",
            "platform": "web",
            "kind": "like",
            "reacted_at": pd.Timestamp("2026-01-05"),
            "person": [f"p{i}" for i in range(n)],
            "name": [f"Ann Lee{i}" for i in range(n)],
            "birth_year": 1970.0,
            "postcode": "48104",
        }
        | columns
    )
    return check(REACTIONS, rows)


def test_only_people_with_a_declared_basis_on_record_may_be_linked() -> None:
    bases = [None, "consent", "reply", "legitimate_interest", "public_register"]
    reactions = reactions_of(5, basis=bases)
    assert linkable(reactions, ["consent"])["reaction_person"].tolist() == ["p1"]
    assert len(linkable(reactions, ["consent", "reply", "contract"])) == 2
    assert linkable(reactions, []).empty
    assert not has_basis(reactions_of(5), ["consent"]).any()
    for basis in ("legitimate_interest", "public_register"):
        with pytest.raises(ValueError, match="expected bases among consent"):
            linkable(reactions, [basis])


def test_nothing_about_a_person_stays_with_the_events_but_linked_pseudonyms() -> None:
    """p0 was linked, p1 has no basis, p2 has one but is in no file, r3 has nobody."""
    reactions = reactions_of(
        4, basis=["consent", None, "consent", None], sex="F",
        person=["p0", "p1", "p2", None],
    )  # fmt: skip
    kept = kept_events(reactions, ["consent"], ["p0"])
    assert kept["reaction_id"].tolist() == ["r0", "r2", "r3"]
    assert kept["person"].fillna("").tolist() == ["p0", "", ""]
    assert set(kept) == {
        "reaction_id", "message_id", "platform", "kind", "reacted_at", "person",
        "basis",
    }  # fmt: skip
    assert kept_events(reactions, [], [])["reaction_id"].tolist() == ["r3"]


def test_no_group_has_fewer_than_twenty_people() -> None:
    place = ["48104"] * 30 + ["49503"] * 19 + ["47001"] * 4
    groups = aggregate_reactions(reactions_of(53, postcode=place), year=2026)
    told = groups.set_index("place")["n_people"].to_dict()
    assert told == {"481": 30, "other": 23}


def test_a_small_group_is_not_worked_out_from_the_others() -> None:
    """30 and 4: "other" has to take the 30 too, else 34 − 30 were four people."""
    place = ["48104"] * 30 + ["47001"] * 4
    groups = aggregate_reactions(reactions_of(34, postcode=place), year=2026)
    assert groups["place"].tolist() == ["other"]
    assert groups["n_people"].tolist() == [34]
    few = aggregate_reactions(reactions_of(19), year=2026)
    assert few.empty


def test_one_person_who_reacts_often_is_one_person() -> None:
    often = reactions_of(60, person=[f"p{i % 15}" for i in range(60)])
    assert aggregate_reactions(often, year=2026).empty
    nameless = reactions_of(60, person=None)
    assert aggregate_reactions(nameless, year=2026).empty


def test_random_groups_hold_everybody_who_is_told_of_and_none_is_small() -> None:
    rng = np.random.default_rng(5)
    for _ in range(8):
        n = int(rng.integers(1, 400))
        reactions = reactions_of(
            n,
            message_id=rng.choice(["m", "k"], n),
            postcode=rng.choice(["48104", "49503", "47001", "46002"], n),
            birth_year=rng.choice([1940.0, 1970.0, 2000.0], n),
        )
        groups = aggregate_reactions(reactions, year=2026)
        assert (groups["n_people"] >= 20).all()
        told = groups.groupby("message_id")["n_people"].sum()
        there = reactions.groupby("message_id")["person"].nunique()
        for message, people in there.items():
            assert told.get(message, 0) == (people if people >= 20 else 0)


# --- carried on -----------------------------------------------------------------------


def test_a_reaction_counts_by_its_link_and_only_before_the_delivery() -> None:
    reactions = reactions_of(
        4, person=["a", "a", "b", "a"], kind=["like", "love", "like", "angry"],
        reacted_at=pd.to_datetime(
            ["2026-03-01", "2026-04-05 23:59:59", "2026-04-06", "2026-03-01"],
            format="ISO8601",
        ),
    )  # fmt: skip
    links = pd.DataFrame(
        {"reaction_person": ["a", "b"], "voter_id": ["v1", "v2"],
         "probability": [0.8, 0.9]}
    )  # fmt: skip
    voters = pd.DataFrame({"voter_id": ["v2", "v1", "v3"]}, index=[5, 6, 7])
    issue_of = pd.Series({"m": "health care"})
    as_of = pd.Timestamp("2026-04-06")
    found = with_linked_reactions(voters, reactions, links, issue_of, as_of=as_of)
    assert found["reacted__health_care"].tolist() == [0.0, 1.6, 0.0]
    later = as_of + pd.Timedelta(seconds=1)
    found = with_linked_reactions(voters, reactions, links, issue_of, as_of=later)
    assert found["reacted__health_care"].tolist() == [0.9, 1.6, 0.0]


def test_a_row_that_comes_without_links_is_as_one_who_is_linked_to_nobody() -> None:
    reader = Reader(
        TableSource.model_validate(
            {"path": "x", "source": "s", "licence": "l", "permitted_use": "u"}
        ),
        ("age", "reacted__jobs"), pd.Timestamp("2026-04-06"),
        Encoding(("age", "reacted__jobs"), {}),
    )  # fmt: skip
    voters = pd.DataFrame({"voter_id": ["v1"], "age": [40.0]})
    bare = reader.features(voters)
    told = reader.features(voters.assign(reacted__jobs=0.0))
    pd.testing.assert_frame_equal(bare, told)
