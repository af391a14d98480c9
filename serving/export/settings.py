"""The form in which each channel takes contacts, and when a plan may be exported."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import pandas as pd

from hustings.features.tables import SMALLEST_CELL
from hustings.serving.export.formats import AudienceFormat, PlatformName, format_of

FileFormat = Literal["csv", "parquet"]
Recheck = Callable[[pd.DataFrame, pd.Timestamp], pd.Series]
"""PLAN rows and a time → reason code of every row, '' where it may go; same index."""

NEVER_EXPORT = frozenset({"research_replay"})
"""Rule sets that evaluate and never let anything leave."""
BATCH = 10_000
"""Rows of one file of an audience: what platforms take at once."""

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "no_address": "no address for the channel",
        "small_cell": "a cell of too few people",
        "small_audience": "an audience of too few people",
        "held_out_address": "an address that somebody held out has too",
        "cancelled": "the plan was cancelled",
        "sent_online": "carried out online already",
        "contacted_online": "sent something online since, and not again so soon",
    }
)
"""Reasons that an export adds to those of the rules."""


class ExportError(ValueError):
    """A plan may not leave; the message says what was expected and what came."""


@dataclass(frozen=True)
class ExportChannel:
    """How a channel takes what is sent by it.

    Attributes:
        keys: What it lets one choose by, of place, age_band, sex; empty where it takes
            people.
        min_audience: Fewest people of an audience or cell.
        hashed_lists: Whether people are handed over as hashes of their addresses.
        starts: First full hour in which may be sent, local time; None for any.
        until: Full hour from which may not be sent any more.
        details: Columns of IDENTITIES on its lists, where the campaign declares them.
        needs: Without a value in one of these, it reaches nobody.
    """

    keys: tuple[str, ...] = ()
    min_audience: int = SMALLEST_CELL
    hashed_lists: bool = False
    starts: int | None = None
    until: int | None = None
    details: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a channel whose cells could show who somebody is."""
        if self.min_audience < SMALLEST_CELL:
            raise ExportError(
                f"expected min_audience of {SMALLEST_CELL} or more, got "
                f"{self.min_audience}"
            )


_LETTER = ("name", "first_name", "last_name", "address", "street_number", "street",
           "city", "state", "postcode")  # fmt: skip
_NAME = ("name", "first_name", "last_name")
CHANNELS: Mapping[str, ExportChannel] = MappingProxyType(
    {
        "mail": ExportChannel(details=_LETTER, needs=("address", "street")),
        "door": ExportChannel(
            starts=9, until=20, details=_LETTER, needs=("address", "street")
        ),
        "sms": ExportChannel(starts=8, until=21, details=("phone",), needs=("phone",)),
        "phone": ExportChannel(
            starts=8, until=21, details=(*_NAME, "phone"), needs=("phone",)
        ),
        "email": ExportChannel(details=(*_NAME, "email"), needs=("email",)),
        "social": ExportChannel(min_audience=100, hashed_lists=True),
        "web": ExportChannel(min_audience=1_000, keys=("place", "age_band", "sex")),
        "survey": ExportChannel(),
    }
)
"""Without a declaration of its own. Hours: 47 CFR 64.1200(c)(1) for telephones, common
ordinances for doors. Audiences: policies of advertising platforms since 2020."""


AGE_BANDS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
"""Bands of a cell."""


@dataclass(frozen=True)
class ExportSettings:
    """Settings of every file of an export.

    Attributes:
        rule_set: Of the campaign.
        channels: How each channel takes what is sent.
        file_format: Of contact and place lists; audiences are always CSV.
        audience_fields: What people are matched by, of `normal.FIELDS`.
        audience_columns: Field → name of the column in a platform's file.
        phone_plus: Whether "+" is hashed with a telephone; platforms differ.
        platform: Whose format audiences have; None where the settings say it.
        calling_code: Country code of telephones written without one.
        exclude_holdout: Also write the people held out, for the platform to exclude
            when it widens an audience. It hands them over: off unless declared.
        place: Column of the voters that is the place of a cell.
    """

    rule_set: str
    channels: Mapping[str, ExportChannel] = field(default_factory=lambda: CHANNELS)
    file_format: FileFormat = "csv"
    audience_fields: Sequence[str] = ("email", "phone")
    audience_columns: Mapping[str, str] = field(default_factory=dict)
    phone_plus: bool = True
    platform: PlatformName | None = None
    calling_code: str = "1"
    exclude_holdout: bool = False
    place: str = "county_fips"

    @property
    def audience_format(self) -> AudienceFormat:
        """How the platform takes audiences."""
        return format_of(
            self.platform, self.audience_fields, self.audience_columns,
            phone_plus=self.phone_plus,
        )  # fmt: skip

    def channel(self, name: str) -> ExportChannel:
        """How a channel takes what is sent.

        Raises:
            ExportError: If nobody said.
        """
        if name not in self.channels:
            raise ExportError(
                f"expected [export.channels.{name}] in campaign.toml, which says how "
                f"the channel takes its lists; known are {', '.join(self.channels)}"
            )
        return self.channels[name]


def require_exportable(rule_set: str, state: str, *, before: bool) -> None:
    """Refuse a plan that may not be exported.

    Args:
        rule_set: Of the campaign.
        state: Of the plan: draft, approved, locked, sent (from its first channel on),
            returned, cancelled.
        before: Whether all that is asked for has left already: then only those to be
            taken out follows.

    Raises:
        ExportError: If the rule set never exports, or the plan is not locked.
    """
    if rule_set in NEVER_EXPORT:
        raise ExportError(
            f"rule set {rule_set!r} evaluates and never exports: expected another one, "
            "such as us_default, in [campaign] rule_set"
        )
    allowed = ["locked", "sent", *(["returned", "cancelled"] if before else [])]
    if state not in allowed:
        raise ExportError(
            f"expected an approved and locked plan, got one that is {state}"
        )
