"""A simulated campaign with known truth: the embedded default.

An electorate of households is drawn, a field test of issue messages is run on it, and
the truth behind both is written next to the tables.

Notation, for voter i, message m, channel c:

    x_i     what the voter file says of the voter (never a hidden trait)
    b(x)    baseline: expected support without a message, 0-100
    t_m(x)  lift of message m by mail, in points of support
    k_c     multiplier of the channel; mail is 1
    Y_i     support in the survey: 100 Beta(phi q, phi (1 - q)),
            q = (b(x_i) + k_c t_m(x_i)) / 100

so E[Y_i | x_i, m, c] = b + k_c t_m holds exactly: a Beta variable is bounded, nothing
is clipped. Members of a household share part of the noise (a Gaussian copula).

Lifts are sums of groups that can be read off the voter file (`_groups`), weighted by
the points in `_EFFECTS`. No column that drives a lift is ever missing, save vote
history before registration, which counts as half. Hidden tastes for the four issues
move consumer columns and organic reactions only. Who reacts in public is
self-selected, so reactions show who likes an issue, not whom a message moves.

The test sends texts and calls irrespective of permission; a lift is that of being
assigned the message (intent to treat). Places, codes, people and committees are
invented.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.special import betaincinv, expit, ndtr

from hustings.features.arrays import Bools, Floats, Floats32, Ints
from hustings.features.atomic import whole_folder
from hustings.features.simulated.organic import draw_organic
from hustings.features.tables import (
    ANY_MESSAGE,
    CONTROL,
    HISTORY_PREFIX,
    IDENTITIES,
    NO_CHANNEL,
    RAW_TABLES,
    SEXES,
    TIMESTAMP,
    check,
)
from hustings.features.topology import schematic

EXPERIMENT_ID = "spring_test"
SUPPORT, TURNOUT = "support", "turnout"
OBSERVED_ON = pd.Timestamp("2026-03-15")
"""When the voter file was drawn: before the first delivery."""
PRIMARY_ON = pd.Timestamp("2026-08-04")
"""The election after the test, whose turnout is an outcome and never a feature."""
AS_OF = pd.Timestamp("2026-09-01")
MAP_FILE = "counties.topojson"
"""Map of the invented counties, in the folder of the tables."""

CHANNEL_MULTIPLIERS = {"mail": 1.0, "sms": 0.45, "phone": 1.5}
COSTS_USD = {"mail": 0.60, "sms": 0.30, "phone": 1.10}
CAPACITY_SHARE_PER_DAY = {"mail": 0.09, "sms": 0.03, "phone": 0.01}
"""Contacts a day, as a share of the electorate, the same for any number of voters."""

MAX_MESSAGES = 16
ISSUES = ("jobs", "health care", "schools", "public safety")
_BLOCK_STARTS = {"early": "2026-04-06", "late": "2026-05-04"}
_CONTROL_SHARES = {"early": 0.38, "late": 0.42}
_FIELD_DAYS = 5
_TURNOUT_FILE_DAYS = 21
"""From the election to the file that says who voted."""

_HOUSEHOLD_SIZE_SHARES = (0.38, 0.40, 0.14, 0.08)
_PARTIES = ("D", "I", "R")
_URBANICITIES = ("city", "suburb", "town", "rural")
_N_COUNTIES = 40
_POSTCODES_PER_COUNTY = 6
_PRECINCTS_PER_COUNTY = 12
_SEX_SHARES = (0.515, 0.475, 0.01)
_MISSING_SHARE = 0.03

_PRECISION = 8.2
"""phi: a residual SD of about 16 points at a support of 50."""
HOUSEHOLD_CORRELATION = 0.2

_ELECTIONS = {
    "20161108_general": 0.6,
    "20180807_primary": -1.2,
    "20181106_general": 0.2,
    "20201103_general": 0.9,
    "20220802_primary": -1.1,
    "20221108_general": 0.2,
    "20240806_primary": -1.0,
    "20241105_general": 0.8,
}
"""Log odds that a middling voter took part, for each election on file."""
_PRIMARY_LOG_ODDS = -1.0

_BACKLASH_MESSAGE = "safety_background_checks"
_TURNOUT_CHANGE = -0.05
"""Republican homeowners vote a twentieth less often after the backlash message."""

_SPONSOR = "Friends of Dana Whitlock"
_DISCLAIMER = f"Paid for by {_SPONSOR}, PO Box 410, Lansing. Not authorized by others."

_TEXTS = {
    "jobs_paychecks": (
        "Groceries, gas, rent: everything went up except the paycheck. Dana Whitlock "
        "grew up above her father's machine shop and knows what a short week means. "
        "Her plan pays apprentices from the first day, ties state contracts to decent "
        "wages and keeps Michigan plants on Michigan work. You carry this economy. It "
        "is time that it carried you."
    ),
    "health_prescriptions": (
        "Nobody should cut a pill in half to make it to the end of the month. Dana "
        "Whitlock will let the state bargain for lower prescription prices, cap "
        "insulin at thirty-five dollars and stop insurers from dropping a medicine in "
        "the middle of the year. The drug companies are against her plan. That is how "
        "you know that it would work."
    ),
    "schools_classrooms": (
        "Thirty-one children in a second grade, and one teacher for all of them. Dana "
        "Whitlock will hire four thousand more teachers, bring reading coaches to "
        "every elementary school and keep after-school care open until six. She has "
        "two kids in public school and packs the lunches herself. Smaller classes are "
        "not a luxury; they are how children learn to read."
    ),
    "safety_patrols": (
        "When you call for help, somebody should come. In parts of our county that "
        "takes forty minutes. Dana Whitlock will fill the empty deputy posts, pay for "
        "training that keeps good officers here and put body cameras on every patrol. "
        "Sheriffs of both parties back her plan, because safe streets are not about "
        "left or right. They are about getting home."
    ),
    "jobs_small_business": (
        "Main Street does not ask for favors, only for a fair shake. Dana Whitlock "
        "will cut the filing fee for new firms, make the state pay its bills to local "
        "suppliers in thirty days and end tax breaks that go only to the giants. She "
        "has met a payroll. She knows that the hardware store on the corner hires "
        "more of us than any headquarters does."
    ),
    "health_hospital": (
        "The nearest emergency room should not be an hour away. Nine hospitals in our "
        "state closed their maternity wards in ten years. Dana Whitlock will fund "
        "community hospitals by what they keep ready, not only by what they bill, and "
        "forgive loans of nurses who stay five years. Wherever you live, help has to "
        "be close enough to matter."
    ),
    "schools_trades": (
        "Not every good career starts with four years of college. Dana Whitlock will "
        "open a workshop in every high school district, with instructors from the "
        "trades and equipment that is younger than the students. Welding, wiring, "
        "nursing aides, code: a certificate at graduation and a job the week after. "
        "It is an old idea, and our schools should have it back."
    ),
    "safety_background_checks": (
        "Every parent knows the drill now: lights off, door locked, not a sound. Dana "
        "Whitlock will require a background check for every gun sale in this state, "
        "private sales included, and safe storage in homes with children. Hunters and "
        "sportsmen helped to write her bill. Doing nothing has been tried, and our "
        "children can tell us how that went."
    ),
}
_STANCES = {
    "jobs_paychecks": "raise wages on state contracts and pay apprentices",
    "health_prescriptions": "bargain for lower prescription prices",
    "schools_classrooms": "hire teachers for smaller classes",
    "safety_patrols": "fill deputy posts and train officers",
    "jobs_small_business": "help small firms with fees and prompt payment",
    "health_hospital": "fund community hospitals",
    "schools_trades": "open workshops in high schools",
    "safety_background_checks": "background checks for every gun sale",
}
_RETOLD = "_neighbor"
_RETOLD_OPENINGS = {
    "jobs": "A neighbor who works two jobs asked us to pass this on.",
    "health care": "A retired nurse near you asked us to pass this on.",
    "schools": "A teacher near you asked us to pass this on.",
    "public safety": "A former deputy near you asked us to pass this on.",
}
"""The second eight messages repeat the first eight in a neighbor's name."""

_OPENNESS = (0.85, 1.35, 0.45)
"""How far an appeal lands with Democrats, independents and Republicans."""

_EFFECTS: dict[str, dict[str, float]] = {
    "jobs_paychecks": {"all": 1.2, "open_wage_earner": 5.5, "rural": 1.0},
    "health_prescriptions": {"all": 1.0, "open_older": 6.5, "open_older_woman": 1.5},
    "schools_classrooms": {"all": 0.8, "open_parent": 5.5, "open_parent_graduate": 2.0},
    "safety_patrols": {"all": 1.0, "owner": 1.0, "owner_conservative": 3.5},
    "jobs_small_business": {"all": 1.0, "rural": 2.0, "owner": 1.0, "habitual": 0.5},
    "health_hospital": {"all": 2.0},
    "schools_trades": {},
    "safety_background_checks": {
        "all": 1.0, "young_democrat": 6.5, "city": 2.0, "hardline": -5.5,
    },
    "jobs_paychecks_neighbor": {"all": 1.0, "open_wage_earner": 4.0},
    "health_prescriptions_neighbor": {"all": 1.2, "open_older": 4.5},
    "schools_classrooms_neighbor": {"all": 0.8, "open_parent": 4.5},
    "safety_patrols_neighbor": {"all": 1.0, "owner": 2.0, "habitual": 1.0},
    "jobs_small_business_neighbor": {"all": 1.0, "graduate": 1.5, "rural": 1.0},
    "health_hospital_neighbor": {"all": 1.2, "rural": 3.0},
    "schools_trades_neighbor": {"all": 0.8, "open_wage_earner": 1.5},
    "safety_background_checks_neighbor": {"all": 0.8, "young_democrat": 4.0},
}  # fmt: skip
"""Points of support by mail that each group adds; the order is that of messages."""

_SALIENCE: dict[str, dict[str, float]] = {
    "jobs": {"all": -0.6, "wage_earner": 2.0, "rural": 0.4},
    "health care": {"all": -0.7, "older": 2.0, "older_woman": 0.4},
    "schools": {"all": -0.8, "parent": 2.2, "graduate": 0.4},
    "public safety": {"all": -0.7, "owner": 0.8, "owner_conservative": 1.2},
}
"""How much an issue matters to a group, on the scale of one SD of hidden taste."""

_FIRST_NAMES = {
    "F": (
        "Mary Patricia Jennifer Linda Elizabeth Barbara Susan Jessica Sarah Karen Lisa "
        "Nancy Betty Sandra Margaret Ashley Kimberly Emily Donna Michelle Carol Amanda "
        "Melissa Deborah Stephanie Rebecca Laura Sharon Cynthia Kathleen Amy Angela "
        "Shirley Anna Brenda Pamela Emma Nicole Helen Samantha"
    ),
    "M": (
        "James Robert John Michael David William Richard Joseph Thomas Charles Daniel "
        "Matthew Anthony Mark Donald Steven Paul Andrew Joshua Kenneth Kevin Brian "
        "George Timothy Ronald Edward Jason Jeffrey Ryan Jacob Gary Nicholas Eric "
        "Jonathan Stephen Larry Justin Scott Brandon Benjamin"
    ),
}
_LAST_NAMES = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez "
    "Hernandez Lopez Wilson Anderson Thomas Taylor Moore Jackson Martin Lee Perez "
    "Thompson White Harris Sanchez Clark Ramirez Lewis Robinson Walker Young Allen "
    "King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera "
    "Campbell Mitchell Carter Roberts Kowalski Nowak DeVries VanDyke Hakala Makinen "
    "Haddad Khan Patel Schmidt Becker Hoekstra Lindqvist Obrien Kaminski Wojcik Bauer "
    "Nielsen Virtanen Dubois Romano Costa Petrov Kim Chen Tran Ali Hassan Murphy Kelly"
)

_KINDS = ("like", "love", "share", "click", "angry")
_KIND_SHARES = (0.46, 0.16, 0.12, 0.20, 0.06)
_PLATFORMS = ("facebook", "instagram", "x")
_REACTOR_SHARE = 0.05
_STRANGER_SHARE = 0.12
"""Share of the reacting people who are in no voter file."""
_TYPO_SHARE = 0.15
_IDENTITY_STREAM, _EARLY_STREAM = 4, 5
_EARLY_EVENTS = 0.8
"""Reactions of a reactor in the winter before the test, on average."""
_BASIS_SHARES = {"reply": 0.3, "consent": 0.2, "contract": 0.1}
"""Shares of the reactors who wrote back, opted in or signed up; the others did not."""
_FILE_EMAIL_SHARE = 0.4
_GIVEN_EMAIL_SHARE = 0.3
_OTHER_EMAIL_SHARE = 0.15
"""Share of the e-mails given that are others than the file's."""
_FAMILY_NAME_SHARE = 0.3
"""Share of those with a name of their own whom the file has under the family's."""


@dataclass(frozen=True)
class Sample:
    """A simulated campaign, and what is true of it.

    Attributes:
        tables: Raw tables by name, each as `features.tables` declares it.
        truth: A row per voter, in the order of `tables["voters"]`: `voter_id`,
            `baseline` (expected support without a message, 0-100), one
            `lift__<message_id>` each (points of support by mail),
            `turnout_baseline` (probability) and `turnout_lift` (change of that
            probability by the one message that moves it, by mail). float32.
        channels: `channel`, `multiplier`: the lift by a channel is the lift by mail
            times this, for every voter and message.
        links: `reaction_id`, `voter_id`: who really reacted; missing where the person
            is in no voter file.
        identities: IDENTITIES table: what a voter file says of who people are. For
            matching alone, so that it is none of `tables`.
        affinities: Who would react well, by cell and issue: see `organic.Organic`.
    """

    tables: dict[str, pd.DataFrame]
    truth: pd.DataFrame
    channels: pd.DataFrame
    links: pd.DataFrame
    identities: pd.DataFrame
    affinities: pd.DataFrame


@dataclass(frozen=True)
class _People:
    """The electorate as arrays, one entry per voter unless said otherwise.

    Attributes:
        household: Index of the household, so that a trait of households (one entry
            per household) becomes one of voters by `trait[household]`.
        n_households: How many there are.
        county: Index of the county.
        age: Years at `OBSERVED_ON`.
        sex: Index into `SEXES`, as on file.
        party: 0 Democrat, 1 independent, 2 Republican.
        urbanicity: Index into `_URBANICITIES`.
        owner: Whether the home is owned.
        parent: Whether children live in the household.
        graduate: Whether the voter has a degree.
        registered_on: Day of registration.
        history: 1 voted, 0 did not, NaN not yet registered; (n_voters, n_elections).
        taste: Unobserved taste for each issue, SD 1; (n_voters, n_issues).
        diligence: Unobserved inclination to vote, in log odds.
    """

    household: Ints
    n_households: int
    county: Ints
    age: Ints
    sex: Ints
    party: Ints
    urbanicity: Ints
    owner: Bools
    parent: Bools
    graduate: Bools
    registered_on: npt.NDArray[np.datetime64]
    history: Floats32
    taste: Floats32
    diligence: Floats

    @property
    def n_voters(self) -> int:
        return len(self.age)


def simulate(
    *,
    n_voters: int = 200_000,
    seed: int = 20261103,
    n_messages: int = 8,
    null_twin: bool = False,
    early_reactions: bool = False,
) -> Sample:
    """Draw an electorate, test messages on it, and keep the truth.

    The same seed draws the same people for every number of messages, and the same
    people, assignment and noise for the null twin, which differs in its effects alone.

    Args:
        n_voters: Size of the voter file, at least 100.
        seed: Of every draw.
        n_messages: From 2 to 16; the first eight are one with a backlash group
            (`safety_background_checks`), one that moves all voters the same
            (`health_hospital`), one that moves nobody (`schools_trades`) and five that
            move some more.
        null_twin: Give every voter each message's average lift, so that personalising
            is worth nothing.
        early_reactions: Add what the same people did in public in the winter before
            the test; else all that they did came after it.

    Returns:
        The tables of a campaign and the truth about it.

    Raises:
        ValueError: If a size is out of range.

    >>> sample = simulate(n_voters=1_000, seed=1)
    >>> len(sample.tables["voters"]), sample.tables["messages"]["issue"].nunique()
    (1000, 4)
    """
    _check_sizes(n_voters, n_messages)
    # one more at the end leaves the draws of all others as they were
    (
        people_rng, file_rng, design_rng, outcome_rng, social_rng, consent_rng,
        organic_rng,
    ) = np.random.default_rng(seed).spawn(7)  # fmt: skip
    # a stream of its own: what was drawn before it existed stays as it was
    identity_rng = np.random.default_rng([seed, _IDENTITY_STREAM])
    messages = _messages(n_messages)
    people = _people(n_voters, people_rng)
    voters = _voters(people, file_rng)
    truth = _truth(people, voters["voter_id"], messages, null_twin=null_twin)
    designs = _designs(messages)
    deliveries, arm = _deliveries(people, voters["voter_id"], designs, design_rng)
    responses = _responses(people, deliveries, arm, truth, messages, outcome_rng)
    reactions, links, reactor_names = _reactions(people, voters, messages, social_rng)
    if early_reactions:
        early_rng = np.random.default_rng([seed, _EARLY_STREAM])
        reactions, links, reactor_names = _with_early(
            people, reactions, links, messages, reactor_names, early_rng
        )
    identities = _identities(people, voters, reactor_names, identity_rng)
    reactions = _with_bases(reactions, reactor_names, identities, identity_rng)
    issue = messages["issue"].map(list(ISSUES).index).to_numpy()
    organic = draw_organic(voters, _salience(people), issue, messages, organic_rng)
    raw_tables = {
        "voters": voters,
        "messages": messages,
        "designs": designs,
        "deliveries": deliveries.assign(plan_id=deliveries["experiment_id"]),
        "responses": responses.assign(plan_id=responses["experiment_id"]),
        "reactions": reactions,
        "reaction_counts": organic.counts,
        "permissions": _permissions(people, voters["voter_id"], consent_rng),
        "costs": _costs(n_voters),
    }
    tables = {
        name: check(RAW_TABLES[name], frame) for name, frame in raw_tables.items()
    }
    identities = check(IDENTITIES, identities)
    return Sample(tables, truth, _channels(), links, identities, organic.truth)


def write_sample(sample: Sample, folder: Path | str) -> Path:
    """Write a sample as Parquet, the whole folder at once.

    Args:
        sample: What to write.
        folder: Becomes `<table>.parquet` for each table, `identities.parquet`,
            `truth.parquet`, `truth_channels.parquet`, `truth_links.parquet` and
            `truth_affinities.parquet`, and a map of the counties as `MAP_FILE`.
            Replaced if it exists.

    Returns:
        The folder.
    """
    folder = Path(folder)
    frames = sample.tables | {
        "truth": sample.truth,
        "truth_channels": sample.channels,
        "truth_links": sample.links,
        "identities": sample.identities,
        "truth_affinities": sample.affinities,
    }
    with whole_folder(folder) as aside:
        for name, frame in frames.items():
            frame.to_parquet(aside / f"{name}.parquet", index=False)
        (aside / MAP_FILE).write_text(json.dumps(schematic(_fips())))
    return folder


def _check_sizes(n_voters: int, n_messages: int) -> None:
    if n_voters < 100:
        raise ValueError(f"n_voters must be at least 100, got {n_voters}")
    if not 2 <= n_messages <= MAX_MESSAGES:
        raise ValueError(
            f"n_messages must lie in [2, {MAX_MESSAGES}], got {n_messages}"
        )


# Electorate


def _people(n_voters: int, rng: np.random.Generator) -> _People:
    household, place = _households(n_voters, rng)
    n_households = int(household.max()) + 1
    lean, urbanness, county_of = _counties(n_households, rng)
    county = county_of[household]
    owner, parent = _homes(n_households, rng)
    urbanicity = _urbanicity(urbanness[county_of], rng)[household]
    age = _ages(household, place, n_households, rng)
    traits = [_shared(household, n_households, rng) for _ in range(3)]
    graduate = rng.random(n_voters) < expit(-0.7 + 0.5 * traits[0] + 0.4 * (age < 50))
    registered_on = _registered_on(age, rng)
    diligence = 0.035 * (age - 48) + 0.6 * graduate + 0.9 * traits[1]
    return _People(
        household=household,
        n_households=n_households,
        county=county,
        age=age,
        sex=rng.choice(len(SEXES), size=n_voters, p=_SEX_SHARES),
        party=_parties(lean[county], urbanicity, graduate, traits[2], rng),
        urbanicity=urbanicity,
        owner=(owner[household] + 0.045 * (age - 48)) > 0,
        # of an age to have children at home: not their grandparents alone
        parent=parent[household] & (age >= 24) & (age <= 56),
        graduate=graduate,
        registered_on=registered_on,
        history=_history(diligence, registered_on, rng),
        taste=rng.normal(size=(n_voters, len(ISSUES))).astype(np.float32),
        diligence=diligence,
    )


def _households(n_voters: int, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Household of each voter, and the voter's place in it, in a random order."""
    shares = np.array(_HOUSEHOLD_SIZE_SHARES)
    size = 1 + rng.choice(len(shares), size=n_voters, p=shares)
    first = np.concatenate([[0], np.cumsum(size)])
    n_households = int(np.searchsorted(first, n_voters))
    household = np.repeat(np.arange(n_households), size[:n_households])[:n_voters]
    place = np.arange(n_voters) - first[household]
    # shuffled, so that neighbouring ids are not one family
    order = rng.permutation(n_voters)
    return household[order], place[order]


def _shared(household: Ints, n_households: int, rng: np.random.Generator) -> Floats:
    """A trait of mean 0 and SD 1, half of whose variance the household shares."""
    family = rng.normal(size=n_households)[household]
    return np.asarray((family + rng.normal(size=len(household))) / np.sqrt(2))


def _counties(
    n_households: int, rng: np.random.Generator
) -> tuple[Floats, Floats, Ints]:
    """Lean to the left and urbanness of each county; county of each household."""
    urbanness = np.sort(rng.normal(size=_N_COUNTIES))[::-1]
    lean = 0.5 * urbanness + 0.4 * rng.normal(size=_N_COUNTIES)
    people = 1 / (3.0 + np.arange(_N_COUNTIES))
    county_of = rng.choice(_N_COUNTIES, size=n_households, p=people / people.sum())
    return lean - lean[county_of].mean(), urbanness, county_of


def _urbanicity(urbanness: Floats, rng: np.random.Generator) -> Ints:
    """Index into `_URBANICITIES`, a household, from the urbanness of its county."""
    felt = urbanness + rng.normal(size=len(urbanness))
    return 3 - np.searchsorted([-0.9, 0.3, 1.0], felt)


def _homes(n_households: int, rng: np.random.Generator) -> tuple[Floats, Bools]:
    """Inclination to own the home, and whether children live there."""
    return 0.4 + rng.normal(size=n_households), rng.random(n_households) < 0.52


def _ages(
    household: Ints, place: Ints, n_households: int, rng: np.random.Generator
) -> Ints:
    head = 19 + 72 * rng.beta(1.5, 1.9, size=n_households)
    near = head[household] + np.where(place == 0, 0, rng.normal(0, 4, len(place)))
    grown_child = (place >= 2) & (head[household] > 42)
    age = np.where(grown_child, rng.uniform(18, 30, len(place)), near)
    return np.clip(age, 18, 99).astype(np.int64)


def _parties(
    lean: Floats,
    urbanicity: Ints,
    graduate: Bools,
    family: Floats,
    rng: np.random.Generator,
) -> Ints:
    left = lean + 0.25 * graduate - 0.2 * (urbanicity == 3) + 1.1 * family
    left += 0.3 * rng.normal(size=len(left))
    return np.where(left > 0.35, 0, np.where(left < -0.45, 2, 1))


def _registered_on(age: Ints, rng: np.random.Generator) -> npt.NDArray[np.datetime64]:
    """Day of registration: at 18 or later, again after a move, never after the file."""
    years_ago = np.minimum(
        (age - 18) - rng.exponential(3.0, len(age)),
        np.where(rng.random(len(age)) < 0.3, rng.uniform(0, 14, len(age)), np.inf),
    )
    days = np.maximum(years_ago * 365.25, rng.uniform(30, 300, len(age)))
    return np.datetime64(OBSERVED_ON, "D") - days.astype("timedelta64[D]")


def _history(
    diligence: Floats,
    registered_on: npt.NDArray[np.datetime64],
    rng: np.random.Generator,
) -> Floats32:
    columns = []
    for election, log_odds in _ELECTIONS.items():
        held_on = np.datetime64(pd.Timestamp(election[:8]), "D")
        voted = rng.random(len(diligence)) < expit(log_odds + 1.3 * diligence)
        columns.append(np.where(registered_on < held_on, voted, np.nan))
    return np.column_stack(columns).astype(np.float32)


def _groups(people: _People) -> dict[str, Floats]:
    """Traits that the voter file shows, and that drive lifts.

    Memberships lie between 0 and 1; `open_` ones are times the openness of the party.
    """
    older = expit((people.age - 60) / 4)
    graduate = people.graduate.astype(float)
    cares = {
        "older": older,
        "older_woman": older * (people.sex == 0),
        "parent": people.parent.astype(float),
        "parent_graduate": people.parent * graduate,
        "wage_earner": (1 - graduate) * (1 - older),
    }
    openness = np.array(_OPENNESS)[people.party]
    leans = {f"open_{group}": openness * member for group, member in cares.items()}
    return cares | leans | _other_groups(people)


def _other_groups(people: _People) -> dict[str, Floats]:
    younger = expit((40 - people.age) / 4)
    owner = people.owner.astype(float)
    n_known = np.isfinite(people.history).sum(axis=1)
    habitual = np.nansum(people.history, axis=1) / np.maximum(n_known, 1)
    return {
        "all": np.ones(people.n_voters),
        "graduate": people.graduate.astype(float),
        "owner": owner,
        "owner_conservative": owner * (people.party != 0),
        "hardline": owner * (people.party == 2),
        "young_democrat": younger * (people.party == 0),
        "city": (people.urbanicity == 0).astype(float),
        "rural": (people.urbanicity >= 2).astype(float),
        "habitual": np.where(n_known > 0, habitual, 0.5),
    }


def _weighed(groups: dict[str, Floats], weights: dict[str, float]) -> Floats:
    total = np.zeros_like(groups["all"])
    for group, weight in weights.items():
        total += weight * groups[group]
    return total


# Voter file


def _voters(people: _People, rng: np.random.Generator) -> pd.DataFrame:
    n = people.n_voters
    late_birthday = rng.random(n) < 0.8  # the file was drawn in March
    area = rng.integers(_POSTCODES_PER_COUNTY, size=people.n_households)
    street = rng.integers(_PRECINCTS_PER_COUNTY, size=people.n_households)
    postcode = people.county * _POSTCODES_PER_COUNTY + area[people.household]
    precinct = people.county * _PRECINCTS_PER_COUNTY + street[people.household]
    columns = {
        "voter_id": _ids("V", np.arange(1, n + 1), 7),
        "household_id": _ids("H", people.household + 1, 6),
        "birth_year": (OBSERVED_ON.year - people.age - late_birthday).astype(float),
        "age": people.age.astype(float),
        "sex": _picked(SEXES, people.sex),
        "state": _picked(["MI"], np.zeros(n, dtype=np.int64)),
        "county_fips": _picked(_fips(), people.county),
        "precinct": _picked(_precincts(), precinct),
        "postcode": _picked(_postcodes(), postcode),
        "registered_on": people.registered_on.astype(TIMESTAMP),
        "party": _picked(_PARTIES, people.party),
    }
    for number, election in enumerate(_ELECTIONS):
        voted = people.history[:, number]
        columns[f"{HISTORY_PREFIX}{election}"] = voted.astype(float)
    return pd.DataFrame(columns | _provider_columns(people, rng))


def _provider_columns(
    people: _People, rng: np.random.Generator
) -> dict[str, pd.Series | Floats]:
    """What a data broker would append: facts, guesses, a faith and sheer noise."""
    n = people.n_voters
    taste = _salience(people)
    income = np.exp(10.6 + 0.35 * people.graduate + 0.25 * people.owner)
    income *= np.exp(0.4 * _shared(people.household, people.n_households, rng))
    church = expit(-1.0 + 0.9 * (people.party == 2) + 0.015 * (people.age - 48))
    return {
        "income_usd": _holed(income.round(-2), rng),
        "homeowner": people.owner.astype(float),
        "college": people.graduate.astype(float),
        "children_at_home": people.parent.astype(float),
        "urbanicity": _picked(_URBANICITIES, people.urbanicity),
        "magazines_health": rng.poisson(np.exp(-0.8 + 0.5 * taste[:, 1])).astype(float),
        "magazines_family": rng.poisson(np.exp(-0.8 + 0.5 * taste[:, 2])).astype(float),
        "magazines_outdoor": _holed(
            rng.poisson(np.exp(-0.8 + 0.5 * taste[:, 3])).astype(float), rng
        ),
        "consumer_score": _holed(
            np.clip(50 + 12 * taste[:, 0] + rng.normal(0, 12, n), 0, 100).round(1), rng
        ),
        "church_member": (rng.random(n) < church).astype(float),
        "noise": rng.random(n).round(4),
    }


def _salience(people: _People) -> Floats:
    """How much each issue matters, hidden part included; (n_voters, n_issues)."""
    groups = _groups(people)
    seen = np.column_stack([_weighed(groups, _SALIENCE[issue]) for issue in ISSUES])
    return seen + people.taste


def _holed(values: Floats, rng: np.random.Generator) -> Floats:
    return np.where(rng.random(len(values)) < _MISSING_SHARE, np.nan, values)


def _fips() -> list[str]:
    # even numbers: no county of the state has one
    return [f"26{200 + 2 * county}" for county in range(_N_COUNTIES)]


def _precincts() -> list[str]:
    wards = range(1, _PRECINCTS_PER_COUNTY + 1)
    return [f"{fips}-{ward:03d}" for fips in _fips() for ward in wards]


def _postcodes() -> list[str]:
    return [f"{48000 + 7 * i}" for i in range(_N_COUNTIES * _POSTCODES_PER_COUNTY)]


def _ids(letter: str, numbers: Ints, width: int) -> pd.Series:
    digits = pc.utf8_lpad(pc.cast(pa.array(numbers), pa.string()), width, "0")
    joined = pc.binary_join_element_wise(pa.scalar(letter), digits, "")
    return pd.Series(pd.array(joined, dtype="str"))


def _picked(values: Sequence[str], index: npt.NDArray[np.integer]) -> pd.Series:
    return pd.Series(pd.Index(list(values), dtype="str").take(index))


# Messages, effects and truth


def _messages(n_messages: int) -> pd.DataFrame:
    message_ids = list(_EFFECTS)[:n_messages]
    issue = [ISSUES[number % len(ISSUES)] for number in range(n_messages)]
    return pd.DataFrame(
        {
            "message_id": message_ids,
            "title": [name.replace("_", " ").capitalize() for name in message_ids],
            "issue": issue,
            "stance": [_STANCES[name.removesuffix(_RETOLD)] for name in message_ids],
            "text": [_text(*pair) for pair in zip(message_ids, issue, strict=True)],
            "sponsor": _SPONSOR,
            "disclaimer": _DISCLAIMER,
            "discloses": "none",
        }
    )


def _channels() -> pd.DataFrame:
    names, multipliers = zip(*CHANNEL_MULTIPLIERS.items(), strict=True)
    return pd.DataFrame({"channel": names, "multiplier": multipliers})


def _text(message_id: str, issue: str) -> str:
    text = _TEXTS[message_id.removesuffix(_RETOLD)]
    return f"{_RETOLD_OPENINGS[issue]} {text}" if message_id not in _TEXTS else text


def _truth(
    people: _People, voter_id: pd.Series, messages: pd.DataFrame, *, null_twin: bool
) -> pd.DataFrame:
    groups = _groups(people)
    columns: dict[str, pd.Series | Floats] = {
        "voter_id": voter_id,
        "baseline": _baseline(people),
    }
    for message_id in messages["message_id"]:
        lift = _weighed(groups, _EFFECTS[message_id])
        columns[f"lift__{message_id}"] = (
            np.full_like(lift, lift.mean()) if null_twin else lift
        )
    columns["turnout_baseline"] = expit(_PRIMARY_LOG_ODDS + 1.3 * people.diligence)
    turnout_change = 0.0 if null_twin else _TURNOUT_CHANGE
    columns["turnout_lift"] = (
        turnout_change * groups["hardline"] * columns["turnout_baseline"]
    )
    frame = pd.DataFrame(columns)
    return frame.astype(dict.fromkeys(frame.columns.drop("voter_id"), "float32"))


def _baseline(people: _People) -> Floats:
    """Support without a message, about 34 to 68, from columns of the voter file."""
    party = np.array([61.0, 50.0, 39.0])[people.party]
    place = np.array([2.0, 0.5, -0.5, -2.0])[people.urbanicity]
    sex_and_education = 1.5 * (people.sex == 0) + 1.5 * people.graduate
    return np.asarray(party + place + sex_and_education - 0.06 * (people.age - 48))


# Field test


def _designs(messages: pd.DataFrame) -> pd.DataFrame:
    """Control, and every message by every channel with equal probability."""
    arms = [(CONTROL, NO_CHANNEL)]
    arms += [(m, c) for m in messages["message_id"] for c in CHANNEL_MULTIPLIERS]
    rows = [
        (EXPERIMENT_ID, block, message_id, channel, _arm_share(block, message_id, arms))
        for block in _BLOCK_STARTS
        for message_id, channel in arms
    ]
    names = ["experiment_id", "block", "message_id", "channel", "probability"]
    return pd.DataFrame(rows, columns=names)


def _arm_share(block: str, message_id: str, arms: Sequence[tuple[str, str]]) -> float:
    control = _CONTROL_SHARES[block]
    return control if message_id == CONTROL else (1 - control) / (len(arms) - 1)


def _deliveries(
    people: _People,
    voter_id: pd.Series,
    designs: pd.DataFrame,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, Ints]:
    """Deliveries, and each voter's arm: 0 control, else message by message."""
    blocks = list(_BLOCK_STARTS)
    # counties shrink with their number: in pairs, so that the blocks are of one size
    block = (people.county + 1) // 2 % len(blocks)
    control = np.array([_CONTROL_SHARES[name] for name in blocks])[block]
    arms = designs[designs["block"] == blocks[0]].reset_index(drop=True)
    # one draw a household, whose members share a county and so a block
    draw = rng.random(people.n_households)[people.household]
    n_sent = len(arms) - 1
    sent = np.floor((draw - control) / (1 - control) * n_sent).astype(np.int64)
    arm = np.where(draw < control, 0, 1 + np.clip(sent, 0, n_sent - 1))
    start = np.array([np.datetime64(day, "D") for day in _BLOCK_STARTS.values()])
    wait = rng.integers(_FIELD_DAYS, size=people.n_households)[people.household]
    probability = np.where(arm == 0, control, (1 - control) / n_sent)
    frame = pd.DataFrame(
        {
            "voter_id": voter_id,
            "experiment_id": EXPERIMENT_ID,
            "block": _picked(blocks, block),
            "message_id": _picked(arms["message_id"].tolist(), arm),
            "channel": _picked(arms["channel"].tolist(), arm),
            "sent_on": (start[block] + wait.astype("timedelta64[D]")).astype(TIMESTAMP),
            "propensity": probability,
            "randomised_by": "household",
        }
    )
    return frame, arm


def _responses(
    people: _People,
    deliveries: pd.DataFrame,
    arm: Ints,
    truth: pd.DataFrame,
    messages: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.DataFrame:
    lift, turnout_lift = _lift_received(truth, messages, arm)
    # the young answer surveys less, whatever they were sent
    answers = rng.random(people.n_voters) < np.clip(0.72 + 0.0026 * people.age, 0, 1)
    answered = np.flatnonzero(answers)
    expected = truth["baseline"].to_numpy(float) + lift
    wait = rng.integers(14, 29, size=len(answered)).astype("timedelta64[D]")
    surveyed = _outcome_rows(
        deliveries["voter_id"].iloc[answered],
        SUPPORT,
        support_of(expected[answered], _shared_uniform(people, rng)[answered]),
        deliveries["sent_on"].to_numpy()[answered] + wait,
    )
    chance = truth["turnout_baseline"].to_numpy(float) + turnout_lift
    voted = rng.random(people.n_voters) < chance
    turned_out = _outcome_rows(
        deliveries["voter_id"],
        TURNOUT,
        voted.astype(float),
        PRIMARY_ON + pd.Timedelta(days=_TURNOUT_FILE_DAYS),
    )
    return pd.concat([surveyed, turned_out], ignore_index=True)


def support_of(expected: Floats, uniform: Floats) -> Floats:
    """Support 0-100 of given expectation, by inverting its distribution."""
    share = expected / 100
    return np.asarray(
        100 * betaincinv(share * _PRECISION, (1 - share) * _PRECISION, uniform)
    )


def _outcome_rows(
    voter_id: pd.Series, outcome: str, value: Floats, observed_at: object
) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "voter_id": voter_id.to_numpy(),
            "experiment_id": EXPERIMENT_ID,
            "outcome": outcome,
            "value": value,
            "observed_at": observed_at,
        }
    )
    return frame.astype(
        {"voter_id": "str", "experiment_id": "str", "observed_at": TIMESTAMP}
    )


def _lift_received(
    truth: pd.DataFrame, messages: pd.DataFrame, arm: Ints
) -> tuple[Floats, Floats]:
    """True lift of support and turnout of what each voter was sent, by its channel."""
    multipliers = np.array(list(CHANNEL_MULTIPLIERS.values()))
    message = (arm - 1) // len(multipliers)
    kappa = np.where(arm == 0, 0.0, multipliers[(arm - 1) % len(multipliers)])
    lift = np.zeros(len(arm))
    turnout_lift = np.zeros(len(arm))
    for number, message_id in enumerate(messages["message_id"]):
        got = (arm > 0) & (message == number)
        lift[got] = truth[f"lift__{message_id}"].to_numpy(float)[got]
        if message_id == _BACKLASH_MESSAGE:
            turnout_lift[got] = truth["turnout_lift"].to_numpy(float)[got]
    return kappa * lift, kappa * turnout_lift


def _shared_uniform(people: _People, rng: np.random.Generator) -> Floats:
    """Uniform noise correlated within a household (a Gaussian copula)."""
    family = rng.normal(size=people.n_households)[people.household]
    individual = rng.normal(size=people.n_voters)
    share = HOUSEHOLD_CORRELATION
    return np.asarray(ndtr(np.sqrt(share) * family + np.sqrt(1 - share) * individual))


def _costs(n_voters: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "message_id": ANY_MESSAGE,
            "channel": list(COSTS_USD),
            "cost_usd": list(COSTS_USD.values()),
            "capacity_per_day": [
                float(round(n_voters * CAPACITY_SHARE_PER_DAY[c])) for c in COSTS_USD
            ],
        }
    )


# Permissions


_CONSENT_SHARES = {"sms": 0.69, "phone": 0.67, "email": 0.72}
_WITHDRAWN_SHARE = 0.07


def _permissions(
    people: _People, voter_id: pd.Series, rng: np.random.Generator
) -> pd.DataFrame:
    """Consents given by `AS_OF`, a few of them taken back."""
    parts = [
        _consents(people, voter_id, channel, share, rng)
        for channel, share in _CONSENT_SHARES.items()
    ]
    return pd.concat(parts, ignore_index=True)


def _consents(
    people: _People,
    voter_id: pd.Series,
    channel: str,
    share: float,
    rng: np.random.Generator,
) -> pd.DataFrame:
    # the old like calls, the young like texts
    slope = 0.003 if channel == "phone" else -0.003
    given = np.flatnonzero(
        rng.random(people.n_voters) < share + slope * (people.age - 48)
    )
    granted_at = np.datetime64(AS_OF, "s") - (
        rng.integers(40, 900, len(given)).astype("timedelta64[D]")
        - rng.integers(86_400, size=len(given)).astype("timedelta64[s]")
    )
    withdrawn = rng.random(len(given)) < _WITHDRAWN_SHARE
    kept_for = rng.integers(1, 38, len(given)).astype("timedelta64[D]")
    withdrawn_at = np.where(withdrawn, granted_at + kept_for, np.datetime64("NaT", "s"))
    return pd.DataFrame(
        {
            "voter_id": voter_id.iloc[given].array,
            "channel": pd.Series(channel, index=range(len(given)), dtype="str"),
            "basis": pd.Series("consent", index=range(len(given)), dtype="str"),
            "granted_at": granted_at.astype(TIMESTAMP),
            "withdrawn_at": withdrawn_at.astype(TIMESTAMP),
        }
    )


# Organic reactions


def _reactions(
    people: _People,
    voters: pd.DataFrame,
    messages: pd.DataFrame,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame, "_ReactorNames"]:
    """What people did in public of their own accord, and who they really are."""
    salience = _salience(people)
    persons, reactor_names = _persons(people, voters, salience, rng)
    n_events = 1 + rng.poisson(0.5, len(persons))
    who = np.repeat(np.arange(len(persons)), n_events)
    rng.shuffle(who)
    n = len(who)
    rows = persons.iloc[who].reset_index(drop=True)
    voter = rows.pop("voter").to_numpy()
    frame = pd.DataFrame(
        {
            "reaction_id": _ids("R", np.arange(1, n + 1), 7),
            "message_id": _liked(salience, voter, messages, rng),
            "platform": _picked(_PLATFORMS, rng.choice(3, n, p=[0.55, 0.3, 0.15])),
            "kind": _picked(_KINDS, rng.choice(len(_KINDS), n, p=_KIND_SHARES)),
            "reacted_at": _moments(n, rng),
        }
    )
    voter_id = voters["voter_id"].take(np.maximum(voter, 0)).reset_index(drop=True)
    links = pd.DataFrame(
        {"reaction_id": frame["reaction_id"], "voter_id": voter_id.where(voter >= 0)}
    )
    return pd.concat([frame, rows], axis=1), links, replace(reactor_names, who=who)


def _with_early(
    people: _People,
    reactions: pd.DataFrame,
    links: pd.DataFrame,
    messages: pd.DataFrame,
    reactor_names: "_ReactorNames",
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, pd.DataFrame, "_ReactorNames"]:
    """The reactions, and after them those of the same people in the winter before."""
    n_events = rng.poisson(_EARLY_EVENTS, len(reactor_names.voter))
    who = np.repeat(np.arange(len(reactor_names.voter)), n_events)
    n = len(who)
    # every reactor has a reaction whose profile the others repeat
    row_of = np.zeros(len(reactor_names.voter), dtype=np.int64)
    row_of[reactor_names.who] = np.arange(len(reactor_names.who))
    early = reactions.iloc[row_of[who]].reset_index(drop=True)
    early = early.assign(
        reaction_id=_ids("E", np.arange(1, n + 1), 7),
        message_id=_liked(_salience(people), reactor_names.voter[who], messages, rng),
        platform=_picked(_PLATFORMS, rng.choice(3, n, p=[0.55, 0.3, 0.15])),
        kind=_picked(_KINDS, rng.choice(len(_KINDS), n, p=_KIND_SHARES)),
        reacted_at=_moments(n, rng, first="2026-01-05", last="2026-04-06"),
    )
    voter_id = links["voter_id"].iloc[row_of[who]].reset_index(drop=True)
    early_links = pd.DataFrame(
        {"reaction_id": early["reaction_id"], "voter_id": voter_id}
    )
    return (
        pd.concat([reactions, early], ignore_index=True),
        pd.concat([links, early_links], ignore_index=True),
        replace(reactor_names, who=np.concatenate([reactor_names.who, who])),
    )


def _moments(
    n: int,
    rng: np.random.Generator,
    *,
    first: str = "2026-06-01",
    last: str = "2026-09-01",
) -> npt.NDArray[np.datetime64]:
    """Between two days; between the end of the test and `AS_OF` without them."""
    start, end = np.datetime64(first, "s"), np.datetime64(last, "s")
    span = int((end - start) / np.timedelta64(1, "s"))
    moments = start + rng.integers(span, size=n).astype("timedelta64[s]")
    return moments.astype(TIMESTAMP)


def _persons(
    people: _People,
    voters: pd.DataFrame,
    salience: Floats,
    rng: np.random.Generator,
) -> tuple[pd.DataFrame, "_ReactorNames"]:
    """Profiles of those who react; `voter` is the row in the file, -1 for none."""
    # the fond and the concerned speak up: reactions are self-selected
    pull = np.exp(0.05 * (_baseline(people) - 50) + 0.4 * salience.max(axis=1))
    chance = np.clip(_REACTOR_SHARE * pull / pull.mean(), 0, 1)
    voter = np.flatnonzero(rng.random(people.n_voters) < chance)
    n_strangers = max(1, round(_STRANGER_SHARE * len(voter)))
    # a stranger has the sex of some voter, but a name, year and postcode of their own
    row = np.concatenate([voter, rng.integers(people.n_voters, size=n_strangers)])
    stranger = np.arange(len(row)) >= len(voter)
    female = _female(people)[row]
    pseudonym = _pseudonyms(len(row), rng)
    names, reactor_names = _names(people, row, stranger, female, rng)
    persons = pd.DataFrame(
        {
            "person": pseudonym,
            "name": names,
            "birth_year": _given_years(voters["birth_year"], row, stranger, rng),
            "sex": _unsaid(_picked("FM", np.where(female, 0, 1)), 0.1, rng),
            "postcode": _given_postcodes(voters["postcode"], row, stranger, rng),
            "voter": np.where(stranger, -1, row),
        }
    )
    return persons, reactor_names


def _female(people: _People) -> Bools:
    """Whether a voter has a woman's name; half of the voters of unknown sex do."""
    unknown = (people.sex == 2) & (np.arange(people.n_voters) % 2 == 0)
    return np.asarray((people.sex == 0) | unknown)


def _given_years(
    birth_year: pd.Series, row: Ints, stranger: Bools, rng: np.random.Generator
) -> pd.Series:
    """Years of birth given: a few a year off, a fifth not given."""
    year = birth_year.to_numpy()[row]
    year = year + np.where(stranger, rng.integers(-9, 10, len(row)), 0)
    slip = np.where(rng.random(len(row)) < 0.08, rng.choice([-1, 1], len(row)), 0)
    return _unsaid(pd.Series(year + slip), 0.2, rng)


def _given_postcodes(
    postcode: pd.Series, row: Ints, stranger: Bools, rng: np.random.Generator
) -> pd.Series:
    """Postcodes given: a few people have moved, a tenth do not say."""
    moved = stranger | (rng.random(len(row)) < 0.05)
    elsewhere = _picked(_postcodes(), rng.integers(len(_postcodes()), size=len(row)))
    on_file = postcode.iloc[row].reset_index(drop=True)
    return _unsaid(on_file.mask(moved, elsewhere), 0.1, rng)


def _unsaid(values: pd.Series, share: float, rng: np.random.Generator) -> pd.Series:
    return values.where(rng.random(len(values)) >= share)


def _pseudonyms(n: int, rng: np.random.Generator) -> pd.Series:
    return _ids("p", rng.choice(10**9, size=n, replace=False), 9)


def _names(
    people: _People,
    row: Ints,
    stranger: Bools,
    female: Bools,
    rng: np.random.Generator,
) -> tuple[list[str], "_ReactorNames"]:
    """Names given: a family shares its last name, and some are mistyped."""
    firsts = [_FIRST_NAMES["M"].split(), _FIRST_NAMES["F"].split()]
    lasts = _LAST_NAMES.split()
    family = rng.integers(len(lasts), size=people.n_households)
    own_last = rng.integers(len(lasts), size=len(row))
    differs = stranger | (rng.random(len(row)) < 0.1)
    last = np.where(differs, own_last, family[people.household[row]])
    first = rng.integers(min(map(len, firsts)), size=len(row))
    typo = rng.random(len(row)) < _TYPO_SHARE
    given = [
        _given(firsts[int(f)][a], lasts[b], rng if t else None)
        for f, a, b, t in zip(female, first, last, typo, strict=True)
    ]
    voter = np.where(stranger, -1, row)
    return given, _ReactorNames(voter, first, last, family, np.arange(len(row)))


@dataclass(frozen=True)
class _ReactorNames:
    """Names behind those given, one entry per reactor unless said otherwise.

    Attributes:
        voter: Row in the file, -1 for none.
        first: Index of the first name.
        last: Index of the last name.
        family: Index of every household's last name, (n_households,).
        who: Reactor of every reaction, (n_reactions,).
    """

    voter: Ints
    first: Ints
    last: Ints
    family: Ints
    who: Ints


def _identities(
    people: _People,
    voters: pd.DataFrame,
    reactor_names: _ReactorNames,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """What the voter file says of who people are; a few e-mails are a household's."""
    n = people.n_voters
    firsts = [_FIRST_NAMES["M"].split(), _FIRST_NAMES["F"].split()]
    first = rng.integers(min(map(len, firsts)), size=n)
    last = reactor_names.family[people.household]
    own_name = rng.random(n) < 0.1
    last = np.where(own_name, rng.integers(len(_LAST_NAMES.split()), size=n), last)
    is_voter = reactor_names.voter >= 0
    first[reactor_names.voter[is_voter]] = reactor_names.first[is_voter]
    by_family = rng.random(is_voter.sum()) < _FAMILY_NAME_SHARE
    last_of_reactor = np.where(
        by_family,
        reactor_names.family[people.household[reactor_names.voter[is_voter]]],
        reactor_names.last[is_voter],
    )
    last[reactor_names.voter[is_voter]] = last_of_reactor
    female = _female(people)
    return pd.DataFrame(
        {
            "voter_id": voters["voter_id"],
            "first_name": _picked(firsts[1], first).where(
                female, _picked(firsts[0], first)
            ),
            "last_name": _picked(_LAST_NAMES.split(), last),
            "birth_year": voters["birth_year"].astype("int64").astype("str"),
            "postcode": voters["postcode"],
            "email_sha256": _file_emails(people, voters["voter_id"], rng),
        }
    )


def _file_emails(
    people: _People, voter_id: pd.Series, rng: np.random.Generator
) -> pd.Series:
    shared = rng.random(people.n_households)[people.household] < 0.03
    whose = voter_id.where(~shared, _ids("H", people.household + 1, 6))
    return _hashed_emails(whose).where(rng.random(len(whose)) < _FILE_EMAIL_SHARE)


def _hashed_emails(names: pd.Series) -> pd.Series:
    texts = (f"{name}@mail.example".lower() for name in names)
    hashed = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    return pd.Series(hashed, index=names.index, dtype="str")


def _with_bases(
    reactions: pd.DataFrame,
    reactor_names: _ReactorNames,
    identities: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Reactions with the basis on record for each reactor, and e-mails of some."""
    n = len(reactor_names.voter)
    names = [*_BASIS_SHARES, None]
    shares = list(_BASIS_SHARES.values())
    basis = rng.choice(len(names), n, p=[*shares, 1 - sum(shares)])
    given = rng.random(n) < _GIVEN_EMAIL_SHARE
    other = (rng.random(n) < _OTHER_EMAIL_SHARE) | (reactor_names.voter < 0)
    on_file = identities["email_sha256"].take(np.maximum(reactor_names.voter, 0))
    email = _hashed_emails(_ids("P", np.arange(n), 7)).where(
        other, on_file.reset_index(drop=True)
    )
    by_person = pd.DataFrame(
        {
            "email_sha256": email.where(given & (basis < len(shares))),
            "basis": pd.Series([names[i] for i in basis], dtype="str"),
        }
    )
    return pd.concat(
        [reactions, by_person.take(reactor_names.who).reset_index(drop=True)], axis=1
    )


def _given(first: str, last: str, typo: np.random.Generator | None) -> str:
    name = f"{first} {last}"
    if typo is None:
        return name
    at = int(typo.integers(1, len(name) - 1))
    kind = int(typo.integers(3))
    if kind == 0:  # a letter left out
        return name[:at] + name[at + 1 :]
    if kind == 1:  # two letters swapped
        return name[:at] + name[at + 1] + name[at] + name[at + 2 :]
    return f"{first[0]}. {last}"


def _liked(
    salience: Floats,
    voter: Ints,
    messages: pd.DataFrame,
    rng: np.random.Generator,
) -> pd.Series:
    """The message reacted to: more often one on an issue the person cares about."""
    of_message = messages["issue"].map(list(ISSUES).index).to_numpy()
    salience_of_message = salience[np.maximum(voter, 0)][:, of_message]
    salience_of_message = np.where(voter[:, None] >= 0, salience_of_message, 0.0)
    # the largest of fondness plus Gumbel noise is a draw from its softmax
    chosen = (salience_of_message + rng.gumbel(size=salience_of_message.shape)).argmax(
        axis=1
    )
    return _picked(messages["message_id"].tolist(), chosen)
