"""Shipped record layouts of voter files, and which of them a file has."""

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from hustings.features.draft.elections import DID_NOT
from hustings.features.draft.looks import MOST
from hustings.features.draft.places import Writing
from hustings.features.draft.special import plain_name
from hustings.features.tables import TableError

_FILE = Path(__file__).with_name("layouts.toml")
_NUMBERED = re.compile(r"\{1\.\.(\d+)\}")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CountyColumn(_Section):
    """Where a layout says the county, and how it writes it.

    Attributes:
        columns: Names of the column, the first that is there.
        written: See `places.county_codes`.
    """

    columns: list[str]
    written: Writing


class ElectionMonth(_Section):
    """The day of a month's election by the law of the state.

    Attributes:
        tuesday: Which Tuesday of the month.
        kind: Of election.
    """

    tuesday: Annotated[int, Field(ge=1, le=5)]
    kind: str


class Layout(_Section):
    """One published record layout.

    Attributes:
        name: By which it is asked for.
        title: For a person.
        state: Two letters; empty for a vendor's, which are of any state.
        made_by: Who makes the file.
        reference: Where the layout is published.
        verified: Whether a public source of the record was found.
        header: Columns that are all there.
        header_any: Columns of which one is there.
        names: Columns of a file without a header, for each version of it.
        looks: Column → shape of its values, to know a file without a header by.
        county: The county's column.
        letters: The state's own letters of its counties.
        columns: Ours → theirs, the first that is there.
        never: Column → why it is none of ours, whatever it looks like.
        any_code_voted: Whether every code of past votes but N says that somebody voted.
        history_left: Why past elections are left to a person, and where they stand.
        months: Elections of which the name gives the month.
    """

    name: str
    title: str
    state: str
    made_by: str
    reference: str
    verified: bool
    header: list[str] = []
    header_any: list[str] = []
    names: list[list[str]] = []
    looks: dict[str, str] = {}
    county: CountyColumn | None = None
    letters: dict[str, str] = {}
    columns: dict[str, list[str]]
    never: dict[str, str] = {}
    any_code_voted: bool = False
    history_left: str = ""
    months: dict[str, ElectionMonth] = {}

    @property
    def did_not(self) -> frozenset[str]:
        """Codes of past votes that say that somebody did not."""
        return DID_NOT

    def of_header(self, columns: Iterable[str]) -> bool:
        """Whether a file with these columns has the layout."""
        there = {plain_name(c) for c in columns}
        every = bool(self.header) and all(plain_name(c) in there for c in self.header)
        return every or any(plain_name(c) in there for c in self.header_any)

    def of_width(self, n_columns: int) -> list[str]:
        """Names of the columns of a file without a header; empty if it is another's."""
        versions = (list(_written_out(version)) for version in self.names)
        return next((names for names in versions if len(names) == n_columns), [])

    def of_look(self, columns: Mapping[str, pd.Series]) -> bool:
        """Whether a file without a header has the layout, by its width and values."""
        names = self.of_width(len(columns))
        return bool(names) and self._looks_so(
            dict(zip(names, columns.values(), strict=True))
        )

    def _looks_so(self, columns: Mapping[str, pd.Series]) -> bool:
        for name, shape in self.looks.items():
            values = columns[name][columns[name] != ""]
            if not len(values) or values.str.fullmatch(shape).mean() < MOST:
                return False
        return bool(self.looks)

    def placed(self, columns: Iterable[str]) -> dict[str, str]:
        """Ours → theirs, for those columns that are there."""
        by_plain = {plain_name(c): c for c in reversed(list(columns))}
        chosen: dict[str, str] = {}
        for ours, names in self.columns.items():
            there = [by_plain[p] for n in names if (p := plain_name(n)) in by_plain]
            free = [c for c in there if c not in chosen.values()]
            if free:
                chosen[ours] = free[0]
        return chosen

    def is_never(self, column: str) -> str:
        """Why a column is none of ours; empty for others."""
        reasons = {plain_name(c): reason for c, reason in self.never.items()}
        return reasons.get(plain_name(column), "")


def _written_out(names: Iterable[str]) -> Iterator[str]:
    """Column names, those that are numbered one by one.

    >>> list(_written_out(["a", "b_{1..2}_x,c_{1..2}"]))
    ['a', 'b_1_x', 'c_1', 'b_2_x', 'c_2']
    """
    for name in names:
        match = _NUMBERED.search(name)
        if match is None:
            yield name
            continue
        for k in range(1, int(match[1]) + 1):
            yield from _NUMBERED.sub(str(k), name).split(",")


@cache
def layouts() -> dict[str, Layout]:
    """The shipped layouts by name."""
    declared = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return {name: Layout(name=name, **section) for name, section in declared.items()}


def layout_of(columns: Mapping[str, pd.Series], *, header: bool) -> Layout | None:
    """The layout of a file by its header, or by the width and look of a file without.

    Args:
        columns: Values by column.
        header: Whether the file has a header line.
    """
    for layout in layouts().values():
        if layout.of_header(columns) if header else layout.of_look(columns):
            return layout
    return None


def layout_named(name: str) -> Layout:
    """A shipped layout.

    Raises:
        TableError: If there is none of that name.
    """
    if name not in layouts():
        raise TableError(f"expected a layout {', '.join(layouts())}, got {name!r}")
    return layouts()[name]
