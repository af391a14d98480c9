"""Rule sets: what may be sent to whom, as data with their sources.

A rule set is a TOML file next to this one. Each rule has a code, what it requires, its
source and a digest of it; a rule that is not in the file does not hold. No rule set is
legal advice.
"""

import tomllib
from datetime import date
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FOLDER = Path(__file__).parent
NAMES = ("us_default", "eu_2024_900", "places_only", "research_replay")
PLATFORMS = "platforms.toml"

WORDS = {
    "no_permission": "no permission on record",
    "no_separate_consent": "no explicit, separate consent to political targeting",
    "withdrawn": "permission withdrawn",
    "do_not_contact": "asked not to be contacted",
    "already_voted": "has voted already",
    "under_age": "under age, or of an age nobody knows",
    "no_address": "no address for the channel",
    "quiet_hours": "quiet hours",
    "no_sponsor": "lacks its sponsor or its 'paid for by' line",
    "discloses": "discloses the record of others",
    "lowers_turnout": "was measured to lower turnout",
    "unsigned": "speaks of when, where or how to vote, and nobody has signed it",
    "paused": "paused",
    "not_from_person": "data that were not collected from the person",
    "profiles_opinion": "a political opinion",
    "predicts_support": "a predicted support",
    "inferred_affinity": "an inferred liking of issues",
    "linked_reactions": "reactions that were linked to the person",
    "bought_data": "data of a broker or partner",
    "too_narrow": "neither place, nor age, nor sex",
    "elsewhere": "outside the places of the plan",
    "small_cell": "a cell of too few people",
    "unknown_person": "no voter of the file",
}
"""Every reason code, as a person reads it."""

_Text = Annotated[str, Field(min_length=1)]


class RuleError(ValueError):
    """A rule set is declared wrongly, or there is none of that name."""


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Declared):
    """One rule.

    Attributes:
        code: Reason code where the rule is broken.
        requires: What it asks for.
        channels: Where it holds; everywhere without.
        bases: Of a permission: bases that count; any without.
        purpose: Of a permission: what it must have been given for.
        min_age: Of an age.
        unknown: Of an age that nobody knows.
        starts: Of hours: first full hour in which may be sent, local time.
        until: Of hours: full hour from which may not be sent any more.
        columns: Of columns: patterns that may not be features.
        except_columns: Of columns: the only ones that may be.
        source: Law, article, policy.
        digest: What it says, in a line.
        read_on: When it was read.
    """

    code: _Text
    requires: Literal[
        "permission", "not_withdrawn", "not_listed", "not_voted", "age", "address",
        "hours", "sponsor", "own_record", "turnout", "signed", "not_paused",
        "no_columns", "collected_from_person", "no_predicted_support",
    ]  # fmt: skip
    channels: tuple[str, ...] = ()
    bases: tuple[str, ...] = ()
    purpose: str = ""
    min_age: float = 0
    unknown: Literal["allow", "refuse"] = "refuse"
    starts: Annotated[int, Field(ge=0, le=23, alias="from")] = 0
    until: Annotated[int, Field(ge=1, le=24)] = 24
    columns: tuple[str, ...] = ()
    except_columns: tuple[str, ...] = ()
    source: _Text
    digest: _Text
    read_on: date

    @model_validator(mode="after")
    def _said_in_words(self) -> Self:
        if self.code not in WORDS:
            raise ValueError(
                f"expected a code that has words, one of {', '.join(WORDS)}, got "
                f"{self.code!r}"
            )
        return self

    def holds_for(self, channel: str) -> bool:
        """Whether the rule applies to a channel."""
        return not self.channels or channel in self.channels

    def bars(self, column: str) -> bool:
        """Whether it keeps a column from being a feature."""
        if self.requires != "no_columns":
            return False
        if self.except_columns:
            return not any(fnmatchcase(column, p) for p in self.except_columns)
        return any(fnmatchcase(column, p) for p in self.columns)


class RuleSet(_Declared):
    """The rules of one legal setting.

    Attributes:
        name: As a campaign names it.
        about: Where it holds.
        exports: Whether anything may leave under it.
        rules: The rules.
    """

    name: _Text
    about: _Text
    exports: bool
    rules: tuple[Rule, ...]

    def of(self, requires: str, channel: str | None = None) -> list[Rule]:
        """Rules that ask for one thing, of a channel or of all."""
        return [
            rule
            for rule in self.rules
            if rule.requires == requires
            and (channel is None or rule.holds_for(channel))
        ]

    def without(self, code: str) -> Self:
        """The set without the rules of a code, to show what each rule refuses."""
        remaining = tuple(rule for rule in self.rules if rule.code != code)
        return self.model_copy(update={"rules": remaining})

    def code_of_column(self, column: str) -> str:
        """Why a column may not be a feature; empty where it may."""
        return next((rule.code for rule in self.rules if rule.bars(column)), "")


class RuleChannel(_Declared):
    """Targeting that a channel offers.

    Attributes:
        keys: place, age_band, sex; empty where it takes lists of people.
        min_audience: Fewest people that it takes.
        hashed_lists: Whether it takes lists of hashed identifiers.
        source: Policy.
        read_on: When it was read.
    """

    keys: tuple[Literal["place", "age_band", "sex"], ...] = ()
    min_audience: Annotated[int, Field(ge=20)]
    hashed_lists: bool
    source: _Text
    read_on: date


def parse_rules(text: str, *, file: str) -> RuleSet:
    """A rule set from the text of its file.

    Raises:
        RuleError: Naming the file and everything that is wrong.
    """
    try:
        return RuleSet.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as failure:
        raise RuleError(f"{file}: not valid TOML: {failure}") from None
    except ValidationError as failure:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in failure.errors()
        )
        raise RuleError(f"{file}: {faults}") from None


@cache
def rule_set(name: str) -> RuleSet:
    """A rule set by its name.

    Raises:
        RuleError: If there is none, or it is declared wrongly.
    """
    if name not in NAMES:
        raise RuleError(f"rule_set: expected one of {', '.join(NAMES)}, got {name!r}")
    file = FOLDER / f"{name}.toml"
    return parse_rules(file.read_text(encoding="utf-8"), file=file.name)


@cache
def platforms() -> dict[str, RuleChannel]:
    """Targeting that each channel offers, where it does not take lists of people."""
    declared = tomllib.loads((FOLDER / PLATFORMS).read_text(encoding="utf-8"))
    return {
        name: RuleChannel.model_validate(channel)
        for name, channel in declared["channels"].items()
    }
