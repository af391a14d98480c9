"""One declared campaign: question, tables, outcome, budget, features, seed.

`load_campaign` reads a `campaign.toml` and refuses what no campaign may do; an error
names the file, the key, its line, what was expected and what came.
"""

import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

import pandas as pd
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

from features.derived import Derivation
from features.ingest import TableSource
from features.linked import REACTED_PREFIX
from features.partner import FEATURES_PERMITTED, LIFT_PREFIX, WIDTH_PREFIX
from features.post import FLOOR
from features.provider import PROVIDER_PREFIX, permitted_columns
from features.tables import (
    RAW_TABLES,
    REQUIRED_TABLES,
    VOTERS,
    identifying_columns,
    is_derived,
)

PROJECT = Path(__file__).parents[1]
EXPERIMENTS = Path(__file__).parent
DATA_VARIABLE = "HUSTINGS_DATA"
CAMPAIGN_FILE = "campaign.toml"
MAX_SEGMENT_COLUMNS = 3

# ids and addresses say who somebody is, not what moves them
NEVER_FEATURES = identifying_columns(VOTERS) | {
    "voter_id",
    "household_id",
    "cluster_id",
    "precinct",
}
HISTORY_SEGMENT = "history"


class CampaignError(ValueError):
    """A campaign is declared wrongly; the message names key, line and the mend."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


_Text = Annotated[str, Field(min_length=1)]
_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
_Share = Annotated[float, Field(ge=0, lt=1)]
_Chance = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class CampaignSection(_Section):
    """`[campaign]`: what is asked, under which rules, as of when."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
    title: _Text
    question: _Text
    rule_set: Literal["us_default", "research_replay"]
    as_of: date
    seed: Annotated[int, Field(ge=0)]


def _is_glob(pattern: str) -> bool:
    return any(sign in pattern for sign in "*?[")


def _met(patterns: Iterable[str], columns: Sequence[str]) -> set[str]:
    """The columns that any of the patterns meets."""
    return {c for p in patterns for c in columns if fnmatchcase(c, p)}


class OutcomeSection(_Section):
    """`[outcome]`: what is measured, and which way is better.

    Attributes:
        turnout: The outcome in responses that says who voted, where another one is
            asked about: a message that lowers it is barred from the plan.
        persuadable: Predicted support, as a share, between which a voter counts as
            persuadable; without it, the middle third of the audience.
        value: What a lift is worth: the outcome itself, or votes.
    """

    name: _Text
    label: _Text
    kind: Literal["binary", "continuous"]
    measures: Literal["support", "turnout", "other"]
    higher_is_better: bool
    absent: Literal["zero", "missing"]
    unit_per_point: _Positive
    turnout: _Text | None = None
    persuadable: tuple[_Chance, _Chance] | None = None
    value: Literal["outcome", "votes"] = "outcome"

    @model_validator(mode="after")
    def _band_in_order(self) -> Self:
        if self.persuadable and self.persuadable[0] >= self.persuadable[1]:
            raise ValueError("expected persuadable = [low, high] with low below high")
        return self

    @model_validator(mode="after")
    def _never_against_voting(self) -> Self:
        if self.measures == "turnout" and not self.higher_is_better:
            raise ValueError(
                "expected higher_is_better = true of turnout: no campaign may be "
                "rewarded for keeping people from voting"
            )
        return self

    @model_validator(mode="after")
    def _votes_of_support(self) -> Self:
        if self.value != "votes":
            return self
        if self.measures != "support" or not self.higher_is_better:
            raise ValueError(
                'expected measures = "support" and higher_is_better = true where '
                'value = "votes": votes are support × the chance to vote'
            )
        if self.turnout is None:
            raise ValueError(
                'expected turnout = "<outcome>" where value = "votes": without knowing '
                "who voted there is no chance to vote"
            )
        return self

    @property
    def direction(self) -> float:
        """What turns the outcome so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def support_scale(self) -> float:
        """Outcome units from no support to full support: a hundred points."""
        return 100 * self.unit_per_point

    def as_valued(self) -> Self:
        """The outcome as it is judged and planned: votes, where that is declared."""
        if self.value == "outcome":
            return self
        votes = {"label": f"votes ({self.label})", "kind": "continuous"}
        return self.model_copy(update=votes | {"unit_per_point": 0.01})


class PlanSection(_Section):
    """`[plan]`: money, time and what is left to chance."""

    budget_usd: _Positive | None = None
    spend_per_voter_usd: _Positive | None = None
    start_on: date
    days: Annotated[int, Field(ge=1)]
    capacity_per_day: Annotated[int, Field(ge=1)] | None = None
    holdout_share: Annotated[float, Field(gt=0, lt=1)]
    explore_share: _Share = 0.05
    audience: Literal["all", "experiment"] = "all"

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if (self.budget_usd is None) == (self.spend_per_voter_usd is None):
            raise ValueError(
                "expected exactly one of budget_usd and spend_per_voter_usd"
            )
        if self.holdout_share + self.explore_share >= 1:
            raise ValueError("expected holdout_share + explore_share below 1")
        return self


class FeaturesSection(_Section):
    """`[features]`: which columns of the voters may be features.

    Attributes:
        derived: Which columns are derived of the whole file, see `features.derived`:
            "history", "household", "neighbours". All of them are features.
    """

    columns: Annotated[list[_Text], Field(min_length=1)]
    derived: list[Literal["history", "household", "neighbours"]] = []
    exclude: list[_Text] = []
    segment: Annotated[list[_Text], Field(max_length=MAX_SEGMENT_COLUMNS)] = [
        "age",
        "sex",
        HISTORY_SEGMENT,
    ]
    special_categories: list[_Text] = []
    legal_basis_special: str = ""

    @model_validator(mode="after")
    def _special_needs_a_basis(self) -> Self:
        named = set(self.columns) | set(self.segment)
        plain = sorted(name for name in named if not _is_glob(name))
        asked = [name for name in plain if _met(self.special_categories, [name])]
        if asked and not self.legal_basis_special:
            raise ValueError(
                f"{asked[0]!r} is a special category: expected a stated "
                "legal_basis_special, got none"
            )
        return self


class ExperimentSection(_Section):
    """`[experiments.<id>]`: what its outcome is worth, so that budgets can be shared.

    Attributes:
        value: Worth of one outcome unit, in a unit common to all experiments.
    """

    value: _Positive


class ChampionSection(_Section):
    """`[champion]`: for how long what was promoted is defended.

    Attributes:
        max_age_days: After so many days a champion is not compared any more: what it
            learnt is too old to be held against new data. Never without.
    """

    max_age_days: _Positive | None = None


class ReactionsSection(_Section):
    """`[reactions]`: how reactions are taken in as they come.

    Attributes:
        store: `postgresql://host/name`; a file beside the runs without.
        kinds: Kind → good, bad or neutral, over `features.reaction.VALENCE`.
        keep_text: Whether the texts of replies are kept.
        area: Places of the campaign; a state or county begins with one of them.
        posts: Post on a platform → the campaign's message that it is.
        issue_floor: Confidence below which a post is given no issue.
        columns: Of a page's export, ours → theirs, over `features.insights.NAMES`.
        counts: Of a page's export, their column → kind.
    """

    store: str | None = None
    kinds: dict[str, Literal["good", "bad", "neutral"]] = {}
    keep_text: bool = False
    area: list[_Text] = []
    posts: dict[str, _Text] = {}
    issue_floor: _Chance = FLOOR
    columns: dict[str, _Text] = {}
    counts: dict[str, _Text] = {}

    @model_validator(mode="after")
    def _a_database(self) -> Self:
        if self.store is None:
            return self
        if not self.store.startswith("postgresql://"):
            raise ValueError('expected store = "postgresql://host/name"')
        if urlsplit(self.store).password is not None:
            raise ValueError(
                "expected no password in the address, which is kept with the campaign; "
                "give it by PGPASSWORD or a password file"
            )
        return self


class AlertsSection(_Section):
    """`[monitor.alerts]`: who is told of an alarm; secrets come from the environment.

    Attributes:
        webhook: Takes the alarm as JSON; HUSTINGS_WEBHOOK_TOKEN is its bearer token.
            An address that is a secret itself goes into HUSTINGS_WEBHOOK instead.
        smtp_host: Takes e-mail; HUSTINGS_SMTP_USER and HUSTINGS_SMTP_PASSWORD log in.
        smtp_port: Its port.
        smtp_security: How the connection is kept from being read.
        mail_from: Sender.
        mail_to: Who gets it.
    """

    webhook: _Text | None = None
    smtp_host: _Text | None = None
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    mail_from: _Text | None = None
    mail_to: list[_Text] = []

    @model_validator(mode="after")
    def _web_address(self) -> Self:
        if self.webhook and not self.webhook.startswith(("https://", "http://")):
            raise ValueError('expected webhook = "https://..."')
        return self

    @model_validator(mode="after")
    def _whole_letter(self) -> Self:
        if self.smtp_host and not (self.mail_from and self.mail_to):
            raise ValueError("expected mail_from and mail_to beside smtp_host")
        return self


class MonitorSection(_Section):
    """`[monitor]`: when reactions alarm, and whether an alarm pauses a message.

    Attributes:
        pause_on: Which alarms pause a message by rule; a person can pause any.
        alpha: Chance of a false alarm of one message within any `hours`.
        hours: Length of the window in which a change may have begun.
        hour_minutes: Length of what is called an hour.
        tolerated_rise: Ratio of the odds of bad news up to which a rise is no news.
        new_account_days: Younger accounts are new.
        alerts: Who is told of an alarm.
    """

    pause_on: Literal["never", "backlash"] = "never"
    alpha: Annotated[float, Field(gt=0, le=0.1)] = 0.001
    hours: Annotated[int, Field(ge=2, le=168)] = 24
    hour_minutes: Annotated[int, Field(ge=1, le=1_440)] = 60
    tolerated_rise: Annotated[float, Field(ge=1)] = 1.25
    new_account_days: _Positive = 30.0
    alerts: AlertsSection | None = None

    def rules(self) -> dict[str, float]:
        """As `serving.monitor.stream.Rules` names them."""
        return {
            "alpha": self.alpha,
            "hours": self.hours,
            "bucket_minutes": self.hour_minutes,
            "tolerated": self.tolerated_rise,
            "new_account_days": self.new_account_days,
        }


class LinkSection(_Section):
    """`[link]`: who may be looked for in the voter file. Without it, nobody is.

    Attributes:
        voters: Where the voters' names and addresses lie: read for matching, kept in
            memory alone.
        bases: Bases on record that let somebody be linked who reacted.
        threshold: Least probability of a link.
        columns: Fields to compare by; all that both sides have without.
        rules: Fields that have to agree before a pair is compared, several such rules;
            found from the columns without.
    """

    voters: TableSource
    bases: Annotated[list[Literal["consent", "contract", "reply"]], Field(min_length=1)]
    threshold: Annotated[float, Field(ge=0.5, lt=1)] = 0.5
    columns: list[_Text] = []
    rules: list[Annotated[list[_Text], Field(min_length=1)]] = []


class ProviderSection(_Section):
    """`[providers.<name>]`: columns bought of a provider, and how they are joined.

    Attributes:
        table: Where they lie; it states source, licence, permitted use and date.
        join: By the voter's id, by HMAC-hashed identifiers, or by linkage.
        key: Of a hashed join: the field of the identities that is hashed.
    """

    table: TableSource
    join: Literal["voter_id", "hashed", "linked"]
    key: _Text = "email"

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if self.table.observed_on is None:
            raise ValueError("expected table.observed_on, the day of the columns")
        return self


class SimulateSection(_Section):
    """`[simulate]`: the tables at `raw:` are made by the simulator."""

    n_voters: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0)]
    n_messages: Annotated[int, Field(ge=1)] = 8
    null_twin: bool = False
    early_reactions: bool = False


class Campaign(_Section):
    """A whole `campaign.toml`."""

    campaign: CampaignSection
    outcome: OutcomeSection
    plan: PlanSection
    features: FeaturesSection
    tables: dict[str, TableSource]
    experiments: dict[str, ExperimentSection] = {}
    champion: ChampionSection = ChampionSection()
    reactions: ReactionsSection = ReactionsSection()
    monitor: MonitorSection = MonitorSection()
    link: LinkSection | None = None
    providers: dict[_Name, ProviderSection] = {}
    simulate: SimulateSection | None = None

    _file: Path = PrivateAttr(default=Path(CAMPAIGN_FILE))

    @property
    def file(self) -> Path:
        """The campaign.toml it was read from."""
        return self._file

    @property
    def folder(self) -> Path:
        """The folder of the campaign, which paths of tables are relative to."""
        return self._file.parent

    @model_validator(mode="after")
    def _dates_in_order(self) -> Self:
        if self.campaign.as_of > self.plan.start_on:
            raise ValueError(
                f"expected campaign.as_of on or before plan.start_on, got "
                f"{self.campaign.as_of} and {self.plan.start_on}"
            )
        return self

    @model_validator(mode="after")
    def _identities_for_joins(self) -> Self:
        needy = [n for n, p in self.providers.items() if p.join != "voter_id"]
        if needy and self.link is None:
            raise ValueError(
                f"[providers.{needy[0]}] joins by who people are: expected a section "
                "[link] that says where the voters' identities lie, got none"
            )
        return self

    @model_validator(mode="after")
    def _all_tables(self) -> Self:
        absent = [name for name in REQUIRED_TABLES if name not in self.tables]
        unknown = [name for name in self.tables if name not in RAW_TABLES]
        if absent:
            raise ValueError(f"expected a section [tables.{absent[0]}], got none")
        if unknown:
            raise ValueError(
                f"[tables.{unknown[0]}] is no table: expected one of "
                f"{', '.join(RAW_TABLES)}"
            )
        if self.tables["voters"].observed_on is None:
            raise ValueError(
                "[tables.voters] expected observed_on, the day when its columns were "
                "observed: only what lies before the first delivery may be a feature"
            )
        return self


def data_dir() -> Path:
    """The folder of public data: HUSTINGS_DATA, else ../shared/data of the project."""
    set_to = os.environ.get(DATA_VARIABLE)
    return Path(set_to) if set_to else (PROJECT / "../shared/data").resolve()


def campaign_file(name_or_path: str | Path) -> Path:
    """The campaign.toml of a shipped campaign's name, a folder or a file.

    Raises:
        CampaignError: If there is none.
    """
    given = Path(name_or_path)
    shipped_file = EXPERIMENTS / given.name / CAMPAIGN_FILE
    if str(name_or_path) == given.name and shipped_file.is_file():
        return shipped_file
    file = given if given.suffix == ".toml" else given / CAMPAIGN_FILE
    if not file.is_file():
        shipped = sorted(
            path.parent.name for path in EXPERIMENTS.glob("*/campaign.toml")
        )
        raise CampaignError(
            f"expected a campaign, got {str(name_or_path)!r}: there is no {file}; give "
            f"a folder with a {CAMPAIGN_FILE}, or one of {', '.join(shipped)}"
        )
    return file


def load_campaign(name_or_path: str | Path) -> Campaign:
    """Read and check a campaign.

    Args:
        name_or_path: A shipped campaign's name, a folder, or a campaign.toml.

    Raises:
        CampaignError: Naming the file, key and line of everything that is wrong.
    """
    file = campaign_file(name_or_path)
    return parse_campaign(file.read_text(encoding="utf-8"), file=file)


def parse_campaign(text: str, *, file: Path = Path(CAMPAIGN_FILE)) -> Campaign:
    """A campaign from the text of its declaration.

    Raises:
        CampaignError: Naming the file, key and line of everything that is wrong.
    """
    try:
        declared = tomllib.loads(text)
    except tomllib.TOMLDecodeError as failure:
        raise CampaignError(f"{file}: not valid TOML: {failure}") from None
    lines = toml_lines(text)
    try:
        campaign = Campaign.model_validate(declared)
    except ValidationError as failure:
        told = [_fault_told(fault, lines) for fault in failure.errors()]
        raise CampaignError("\n".join(f"{file}, {line}" for line in told)) from None
    campaign._file = file
    for name, source in campaign.tables.items():
        source.located(_lines_below(lines, ("tables", name)))
    if campaign.link is not None:
        campaign.link.voters.located(_lines_below(lines, ("link", "voters")))
    return campaign


# --- errors with their lines ----------------------------------------------------------

_Key = tuple[str, ...]


def toml_lines(text: str) -> dict[_Key, int]:
    r"""The line, from 1, on which each key of a TOML text stands.

    Keys inside an inline table or an array count as on the line of their outer key.

    >>> toml_lines("[plan]\ndays = 3")
    {('plan',): 1, ('plan', 'days'): 2}
    """
    lines: dict[_Key, int] = {}
    section: _Key = ()
    for number, statement in _statements(text):
        if statement.startswith("["):
            section = _key(statement.strip("[] "))
            lines.setdefault(section, number)
        else:
            lines[section + _key(_left_side(statement))] = number
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Line and start of every TOML statement, those that run over lines only once."""
    pending: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        bare = line.strip()
        if not pending and (not bare or bare.startswith("#")):
            continue
        start = start if pending else number
        pending.append(line)
        if bare.startswith("[") and len(pending) == 1:
            yield start, bare.split("#")[0].strip()
            pending = []
        elif not bare.endswith(",") and _is_whole("\n".join(pending)):
            yield start, pending[0].strip()
            pending = []


def _is_whole(statement: str) -> bool:
    try:
        tomllib.loads(statement)
    except tomllib.TOMLDecodeError:
        return False
    return True


def _left_side(statement: str) -> str:
    """What stands before the first '=' that is not inside quotes."""
    ends = [i for i, sign in enumerate(statement) if sign == "="]
    return next(statement[:end] for end in ends if _is_whole(f"{statement[:end]} = 0"))


def _key(dotted: str) -> _Key:
    """The parts of a key as written, quotes resolved."""
    found: Any = tomllib.loads(f"{dotted} = 0")
    parts = []
    while isinstance(found, dict):
        ((part, found),) = found.items()
        parts.append(part)
    return tuple(parts)


def _lines_below(lines: Mapping[_Key, int], section: _Key) -> dict[str, int]:
    n = len(section)
    return {".".join(k[n:]): v for k, v in lines.items() if k[:n] == section and k[n:]}


def _line_of(lines: Mapping[_Key, int], key: _Key) -> int | None:
    """The line of a key, or of the nearest key around it."""
    while key and key not in lines:
        key = key[:-1]
    return lines.get(key)


def _fault_told(fault: Any, lines: Mapping[_Key, int]) -> str:
    key = tuple(str(part) for part in fault["loc"])
    if fault["type"] == "missing":
        told = f"expected the key {key[-1]!r}, got none"
    elif fault["type"] == "extra_forbidden":
        told = _unknown_key(key)
    else:
        told = _in_our_words(fault["msg"])
        if not isinstance(fault["input"], dict | BaseModel):
            told += f", got {fault['input']!r}"
    line = _line_of(lines, key)
    at = f" (line {line})" if line else ""
    return f"{_shown(key)}{at}: {told}"


def _shown(key: _Key) -> str:
    """A key as one finds it in the file: [plan].budget_usd, [tables.voters].path."""
    depth = 2 if key and key[0] in {"tables", "experiments"} else 1
    section = ".".join(key[:depth])
    return ".".join([f"[{section}]" if section else "the campaign", *key[depth:]])


def _in_our_words(message: str) -> str:
    message = message.removeprefix("Value error, ").removeprefix("Assertion failed, ")
    message = message.replace("Input should be", "expected")
    return message.replace("String should have at least 1 character", "expected a text")


def _unknown_key(key: _Key) -> str:
    sections: dict[str, type[BaseModel]] = {
        "campaign": CampaignSection,
        "outcome": OutcomeSection,
        "plan": PlanSection,
        "features": FeaturesSection,
        "champion": ChampionSection,
        "monitor": MonitorSection,
        "reactions": ReactionsSection,
        "simulate": SimulateSection,
        "tables": TableSource,
        "experiments": ExperimentSection,
        "link": LinkSection,
        "providers": ProviderSection,
    }
    section = sections.get(key[0], Campaign)
    known = list(section.model_fields if len(key) > 1 else Campaign.model_fields)
    near = get_close_matches(key[-1], known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"not a key of a campaign{hint}; expected one of {', '.join(known)}"


# --- what a campaign says of its tables -----------------------------------------------


def feature_columns(campaign: Campaign, voters_columns: Sequence[str]) -> list[str]:
    """The columns of the voters that may be features, in the file's order.

    Globs leave out what identifies somebody, what is excluded, and special categories
    without a legal basis; naming such a column outright is an error.

    Args:
        campaign: The declaration.
        voters_columns: Columns of the checked voters.

    Raises:
        CampaignError: If a declared column is not there, or never a feature, or no
            column is left.
    """
    declared = campaign.features
    barred = set(NEVER_FEATURES) | barred_from_features(campaign, voters_columns)
    barred |= _met([f"{WIDTH_PREFIX}*"], voters_columns)
    if not _partner_features_permitted(campaign):
        barred |= _met([f"{LIFT_PREFIX}*"], voters_columns)
    barred |= _met([f"{PROVIDER_PREFIX}*"], voters_columns) - permitted_columns(
        voters_columns, _permitted_uses(campaign), FEATURES_PERMITTED
    )
    for pattern in declared.columns:
        _check_pattern(campaign, pattern, voters_columns)
    allowed = _met(declared.columns, voters_columns)
    allowed |= {name for name in voters_columns if is_derived(name)}
    allowed -= barred
    if not allowed:
        raise CampaignError(
            f"{campaign.file}, [features].columns: expected at least one column that "
            "may be a feature, got none"
        )
    return [name for name in voters_columns if name in allowed]


def special_columns(campaign: Campaign, columns: Sequence[str]) -> frozenset[str]:
    """Those of some columns that the campaign declares a special category."""
    return frozenset(_met(campaign.features.special_categories, columns))


def derivation(
    campaign: Campaign,
    voters_columns: Sequence[str],
    *,
    as_of: pd.Timestamp,
    parties: Sequence[str] = (),
) -> Derivation:
    """What the campaign derives of its voter file, and of which columns.

    What is excluded, and a special category without a legal basis, is part of no
    derived column either; ids of households and areas only group people.

    Args:
        campaign: The declaration.
        voters_columns: Columns of the checked voters.
        as_of: The first delivery.
        parties: Whose shares among the neighbours are told.
    """
    barred = barred_from_features(campaign, voters_columns)
    usable = [c for c in voters_columns if c not in barred and not is_derived(c)]
    groups = tuple(dict.fromkeys(campaign.features.derived))
    return Derivation(groups, tuple(usable), as_of, tuple(parties))


def barred_from_features(campaign: Campaign, columns: Sequence[str]) -> set[str]:
    """Columns that the campaign excludes, special categories without a basis included.

    What is barred may not come back by another way either, such as a cell of it.
    """
    declared = campaign.features
    barred = _met(declared.exclude, columns)
    if not declared.legal_basis_special:
        barred |= _met(declared.special_categories, columns)
    return barred


def _partner_features_permitted(campaign: Campaign) -> bool:
    """Whether the licence of a partner's lifts names features among their uses."""
    source = campaign.tables.get("partner_scores")
    return source is not None and FEATURES_PERMITTED in source.permitted_use.lower()


def _permitted_uses(campaign: Campaign) -> dict[str, str]:
    return {name: p.table.permitted_use for name, p in campaign.providers.items()}


def _check_pattern(campaign: Campaign, pattern: str, columns: Sequence[str]) -> None:
    where = f"{campaign.file}, [features].columns"
    if pattern in NEVER_FEATURES:
        raise CampaignError(
            f"{where}: {pattern!r} says who somebody is, never a feature"
        )
    asks_partner = pattern.startswith(LIFT_PREFIX)
    if asks_partner and not _partner_features_permitted(campaign):
        raise CampaignError(
            f"{where}: {pattern!r} is a partner's: expected a permitted_use in "
            f"[tables.partner_scores] that names {FEATURES_PERMITTED!r}, got none"
        )
    if pattern.startswith(REACTED_PREFIX):
        return  # there are none where nobody who reacted could be linked
    if not _met([pattern], columns):
        near = get_close_matches(pattern, list(columns), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise CampaignError(
            f"{where}: expected a column {pattern!r} among the voters{hint}, got "
            f"{', '.join(columns)}"
        )


def check_experiments(campaign: Campaign, experiment_ids: Iterable[str]) -> None:
    """Refuse one budget over experiments whose outcomes cannot be compared.

    Lifts compare only within an experiment, unless each is given a value.

    Raises:
        CampaignError: If several experiments share an audience without values, or a
            value is declared for an experiment that is not there.
    """
    ids = sorted(set(experiment_ids))
    strange = sorted(set(campaign.experiments) - set(ids))
    if strange:
        raise CampaignError(
            f"{campaign.file}, [experiments.{strange[0]}]: expected one of the "
            f"experiments {', '.join(ids)}"
        )
    unvalued = [name for name in ids if name not in campaign.experiments]
    if len(ids) > 1 and unvalued and campaign.plan.audience != "experiment":
        raise CampaignError(
            f"{campaign.file}, [plan].audience: {len(ids)} experiments measure "
            'outcomes that cannot be compared: expected audience = "experiment", or an '
            f"[experiments.{unvalued[0]}] with its value"
        )
