"""`[export]`: formats of the channels' lists and of the results they return."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from hustings.experiments.declaration.section import (
    FileGivenLater,
    Name,
    Section,
    Text,
)
from hustings.features.ingest import TableSource
from hustings.features.persons.contact_details import region_of
from hustings.features.tables import CHANNELS, SMALLEST_CELL
from hustings.serving.export.formats import FORMATS, PlatformName
from hustings.serving.export.normal import FIELDS


def _of_a_country(calling_code: str) -> str:
    region_of(calling_code)
    return calling_code


CallingCode = Annotated[
    str,
    Field(pattern=r"^[1-9]\d{0,2}$"),
    AfterValidator(_of_a_country),
]
"""Digits of a country's calling code."""
Field0To100 = Annotated[float, Field(ge=0, le=100)]


class ChannelSection(Section):
    """`[export.channels.<name>]`: what a channel's list needs.

    Attributes:
        details: Columns of the contacts on its list.
        needs: Without a value in one of these, it reaches nobody.
        min_audience: Fewest people of an audience or cell; never below the platform's.
    """

    details: tuple[Text, ...] | None = None
    needs: tuple[Text, ...] | None = None
    min_audience: Annotated[int, Field(ge=SMALLEST_CELL)] = SMALLEST_CELL


class AudienceSection(Section):
    """`[export.audience]`: how people are handed to platforms as hashes.

    Attributes:
        platform: Whose format the file has: names of columns, what is hashed, and how.
        fields: What people are matched by.
        columns: Field → name of the platform's column, where no platform is declared.
        phone_plus: Whether "+" is hashed with a telephone, likewise.
        calling_code: Country code of telephones written without one.
        exclude_holdout: Also hand over the held out, for the platform to exclude.
        place: Column of the voters that is the place of a cell.
    """

    platform: PlatformName | None = None
    fields: tuple[Text, ...] = ("email", "phone")
    columns: dict[str, Text] = {}
    phone_plus: bool = True
    calling_code: CallingCode = "1"
    exclude_holdout: bool = False
    place: Text = "county_fips"

    @model_validator(mode="after")
    def _known_fields(self) -> Self:
        unknown = [f for f in (*self.fields, *self.columns) if f not in FIELDS]
        if unknown:
            raise ValueError(
                f"expected fields out of {', '.join(FIELDS)}, got {unknown[0]!r}"
            )
        if not {"email", "phone"} & set(self.fields):
            raise ValueError("expected email or phone among the fields")
        return self

    @model_validator(mode="after")
    def _as_the_platform_says(self) -> Self:
        if self.platform is None:
            return self
        twice = {"columns", "phone_plus"} & self.model_fields_set
        if twice:
            raise ValueError(
                f"expected no {min(twice)}: the platform {self.platform!r} says it"
            )
        platform = FORMATS[self.platform]
        other = [f for f in self.fields if f not in platform.columns]
        if other or (platform.one_field and len(self.fields) > 1):
            number = "one field" if platform.one_field else "fields"
            raise ValueError(
                f"{self.platform} matches by {number} out of "
                f"{', '.join(platform.columns)}, got {', '.join(other or self.fields)}"
            )
        return self


class SlotSection(Section):
    """`[[export.van.slots]]`: one score; see `serving.export.scores.Slot`.

    Attributes:
        name: Column of the file.
        column: Score that goes into it.
        scale: What the score is: a `share` of 1, `points` of 100, or to be turned into
            a `rank` of 100.
        mean: Mean that the file is expected to have, 0 to 100.
        tolerance: How far its mean may be off.
        decimals: Of the numbers in the file.
    """

    name: Text
    column: Text
    scale: Literal["share", "points", "rank"]
    mean: Field0To100
    tolerance: Field0To100
    decimals: Literal[0, 1] = 0


class UniverseSection(Section):
    """`[[export.van.universes]]`: a list by score.

    Attributes:
        name: Of the list.
        slot: Score that decides.
        at_least: Score from which a voter is on the list, 0 to 100.
    """

    name: Name
    slot: Text
    at_least: Field0To100


class VanSection(Section):
    """`[export.van]`: a voter-contact system's scores file.

    Attributes:
        id_column: How it calls the voter's id.
        max_slots: How many scores it takes.
        slots: The scores.
        universes: Lists by score, of those who have a contact in the plan.
    """

    id_column: Text = "voter_id"
    max_slots: Annotated[int, Field(ge=1)] = 5
    slots: Annotated[list[SlotSection], Field(min_length=1)]
    universes: list[UniverseSection] = []


class AnswersSection(Section):
    """`[export.results.answers.<question>]`: what answers are worth.

    Attributes:
        outcome: Outcome that the question asks for.
        values: Answer → value of the outcome; answers that are not here are none.
    """

    outcome: Text
    values: Annotated[dict[str, float], Field(min_length=1)]


class ResultsSection(Section):
    """`[export.results]`: how a channel's contact results are read.

    Attributes:
        table: Names of its columns and codes; the file is given when it is read.
        answers: Question → outcome and values.
    """

    table: FileGivenLater
    answers: dict[str, AnswersSection] = {}


class ExportSection(Section):
    """`[export]`: formats of the channels' lists and of the results they return.

    Attributes:
        contacts: Where addresses lie: read for an export, kept in memory, written into
            lists alone. Without it lists hold ids.
        channels: What single channels need.
        audience: How people are handed to platforms.
        van: A voter-contact system.
        results: How its results are read.
    """

    contacts: TableSource | None = None
    channels: dict[str, ChannelSection] = {}
    audience: AudienceSection = AudienceSection()
    van: VanSection | None = None
    results: ResultsSection | None = None

    @model_validator(mode="after")
    def _known_channels(self) -> Self:
        unknown = [name for name in self.channels if name not in CHANNELS]
        if unknown:
            raise ValueError(
                f"expected channels out of {', '.join(CHANNELS)}, got {unknown[0]!r}"
            )
        return self
