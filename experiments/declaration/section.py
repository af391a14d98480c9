"""Base model of every section of a declaration, and column patterns."""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from hustings.features.ingest import TableSource


class CampaignError(ValueError):
    """A campaign is declared wrongly; the message names key, line and the mend."""


class Section(BaseModel):
    """A part of a campaign.toml; what it does not know is an error."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)


Text = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9-]+$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Chance = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _without_file(given: Any) -> Any:
    if not isinstance(given, dict) or {"path", "database", "rows"} & given.keys():
        return given
    return {**given, "path": "named when it is read"}


FileGivenLater = Annotated[TableSource, BeforeValidator(_without_file)]
"""How a file is read that a command names: nothing here says where it lies."""


def is_glob(pattern: str) -> bool:
    """Whether a name is a pattern of several columns."""
    return any(sign in pattern for sign in "*?[")


def matching_columns(patterns: Iterable[str], columns: Sequence[str]) -> set[str]:
    """Columns that match any of the patterns."""
    return {c for p in patterns for c in columns if fnmatchcase(c, p)}
