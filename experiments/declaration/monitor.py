"""`[reactions]`, `[monitor]`, `[link]`, `[providers]`: data about people."""

import codecs
import re
from typing import Annotated, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, StringConstraints, field_validator, model_validator

from hustings.experiments.declaration.section import (
    Chance,
    Positive,
    Section,
    Share,
    Text,
)
from hustings.features.ingest import TableSource
from hustings.features.ingest.source import refuse_password
from hustings.features.moments import EPOCH
from hustings.features.post import FLOOR

_HAS_YEAR = re.compile(r"%(?:[YyscxDGF+]|-?[Yy])")


class ReactionsSection(Section):
    """`[reactions]`: how reactions are taken in as they come.

    Attributes:
        store: `postgresql://host/name`; a file next to the runs without.
        kinds: Kind → good, bad or neutral, over `features.reaction.VALENCE`.
        keep_text: Whether the texts of replies are kept.
        area: Places of the campaign; a state or county begins with one of them.
        posts: Post on a platform → the campaign's message that it is.
        issue_floor: Confidence below which a post is given no issue.
        columns: Of a page's export, ours → theirs, over `features.insights.NAMES`.
        counts: Of a page's export, their column → kind.
        formats: Of times in exports, tried in this order, such as "%m/%d/%Y %H:%M" or
            "epoch"; found from the column without.
        zone: IANA name of the time zone of an export's times that name none; UTC
            without.
        encoding: Of exports; found without.
        delimiter: Of exports; found without.
        decimal: Sign before the decimals of a number.
        totals: Whether an export's counts are totals since publication or of a day;
            known by the export without.
        most_quarantined: Share of an export's counts that may be set aside; above it
            nothing is stored.
    """

    store: str | None = None
    kinds: dict[str, Literal["good", "bad", "neutral"]] = {}
    keep_text: bool = False
    area: list[Text] = []
    posts: dict[str, Text] = {}
    issue_floor: Chance = FLOOR
    columns: dict[str, Text] = {}
    counts: dict[str, Text] = {}
    formats: list[Text] = []
    zone: Text | None = None
    encoding: Text | None = None
    delimiter: Annotated[
        str | None,
        StringConstraints(strip_whitespace=False, min_length=1, max_length=1),
    ] = None
    decimal: Literal[".", ","] = "."
    totals: Literal["lifetime", "daily"] | None = None
    most_quarantined: Share = 0.02

    @field_validator("zone")
    @classmethod
    def _zone_of_the_world(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                ZoneInfo(given)
            except (ZoneInfoNotFoundError, ValueError, OSError):
                raise ValueError(
                    'expected an IANA time zone such as "America/New_York"'
                ) from None
        return given

    @field_validator("encoding")
    @classmethod
    def _codec(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                codecs.lookup(given)
            except LookupError:
                raise ValueError('expected an encoding such as "cp1252"') from None
        return given

    @field_validator("formats")
    @classmethod
    def _full_dates(cls, given: list[str]) -> list[str]:
        lacking = [f for f in given if f != EPOCH and not _HAS_YEAR.search(f)]
        if lacking:
            raise ValueError(
                f'expected formats with a year such as "%m/%d/%Y %H:%M", or "{EPOCH}", '
                f"got {lacking[0]!r}"
            )
        return given

    @model_validator(mode="after")
    def _a_database(self) -> Self:
        if self.store is None:
            return self
        if not self.store.startswith("postgresql://"):
            raise ValueError('expected store = "postgresql://host/name"')
        refuse_password(self.store)
        return self


class AlertsSection(Section):
    """`[monitor.alerts]`: recipients of alarms; secrets come from the environment.

    Attributes:
        webhook: Takes the alarm as JSON; HUSTINGS_WEBHOOK_TOKEN is its bearer token.
            An address that is a secret itself goes into HUSTINGS_WEBHOOK instead.
        smtp_host: Takes e-mail; HUSTINGS_SMTP_USER and HUSTINGS_SMTP_PASSWORD log in.
        smtp_port: Its port.
        smtp_security: How the connection is kept from being read.
        mail_from: Sender.
        mail_to: Who gets it.
    """

    webhook: Text | None = None
    smtp_host: Text | None = None
    smtp_port: Annotated[int, Field(ge=1, le=65_535)] = 587
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    mail_from: Text | None = None
    mail_to: list[Text] = []

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


class MonitorSection(Section):
    """`[monitor]`: when reactions alarm, and whether an alarm pauses a message.

    Attributes:
        pause_on: Which alarms pause a message by rule; a person can pause any.
        alpha: Chance of a false alarm of one message within any `hours`.
        hours: Length of the window in which a change may have begun.
        hour_minutes: Length of what is called an hour.
        tolerated_rise: Ratio of the odds of bad news up to which a rise is no news.
        new_account_days: Younger accounts are new.
        alerts: Recipients of alarms.
    """

    pause_on: Literal["never", "backlash"] = "never"
    alpha: Annotated[float, Field(gt=0, le=0.1)] = 0.001
    hours: Annotated[int, Field(ge=2, le=168)] = 24
    hour_minutes: Annotated[int, Field(ge=1, le=1_440)] = 60
    tolerated_rise: Annotated[float, Field(ge=1)] = 1.25
    new_account_days: Positive = 30.0
    alerts: AlertsSection | None = None

    def rules(self) -> dict[str, float]:
        """Rules under the names of `serving.monitor.stream.MonitorRules`."""
        return {
            "alpha": self.alpha,
            "hours": self.hours,
            "bucket_minutes": self.hour_minutes,
            "tolerated": self.tolerated_rise,
            "new_account_days": self.new_account_days,
        }


class LinkSection(Section):
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
    columns: list[Text] = []
    rules: list[Annotated[list[Text], Field(min_length=1)]] = []


class ProviderSection(Section):
    """`[providers.<name>]`: columns bought of a provider, and how they are joined.

    Attributes:
        table: Where they lie; it states source, licence, permitted use and date.
        join: By the voter's id, by HMAC-hashed identifiers, or by linkage.
        key: Of a hashed join: the field of the identities that is hashed.
    """

    table: TableSource
    join: Literal["voter_id", "hashed", "linked"]
    key: Text = "email"

    @model_validator(mode="after")
    def _dated(self) -> Self:
        if self.table.observed_on is None:
            raise ValueError("expected table.observed_on, the day of the columns")
        return self
