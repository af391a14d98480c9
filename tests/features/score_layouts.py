"""How a drafted campaign.toml places the columns of a file whose layout is known."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tests.features.layout_files import OURS, Column, Layout

MISSING = object()
"""What a value becomes that a map does not have."""


@dataclass
class Score:
    """What became of the columns, each with a reason.

    Attributes:
        right: Mapped to what the column is, with its codes and dates; or a special
            category that is declared one.
        wrong: Mapped to something that the column is not, by codes or dates that it
            does not have, or a special or contact column offered as a feature.
        left: Could have been mapped and is left to a person.
    """

    right: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def add(self, place: str, fault: str) -> None:
        """One mapped column: wrong with its fault, or right without."""
        if fault:
            self.wrong.append(f"{place}: {fault}")
        else:
            self.right.append(place)


def placed(draft_toml_text: str, truth: Layout) -> Score:
    """Right, wrong and left of one draft.

    Args:
        draft_toml_text: What `hustings init` drafted; comments are left to a person.
        truth: The layout that the file was written in.
    """
    draft = tomllib.loads(draft_toml_text)
    voters = draft.get("tables", {}).get("voters", {})
    find = _Finder(voters, truth)
    score = Score()
    for kind in OURS:
        _score_ours(kind, voters.get("columns", {}), truth, find, score)
    for key, given in voters.get("columns", {}).items():
        if key not in (*OURS, "county_fips"):
            score.wrong.append(f"{key}: {given!r} is no {key}")
    _score_history(voters.get("history", {}), truth, find, score)
    _score_offers(draft, voters, truth, find, score)
    return score


class _Finder:
    """Columns of the truth by the names that a draft gives them.

    A file without a header is named by a list in the draft, by the layout's names, or
    by numbers; a fixed-width field by its positions.
    """

    def __init__(self, voters: Mapping[str, Any], truth: Layout) -> None:
        self.truth = truth
        self.by_name = {_plain(c.name): c for c in truth.columns}
        self.lists = [
            given
            for key, given in voters.items()
            if isinstance(given, list)
            and len(given) == len(truth.columns)
            and all(isinstance(name, str) for name in given)
        ]
        self.fixed = voters.get("fixed") or {}
        numbers = [_last_number(name) for name in _sources(voters)]
        self.first = 0 if 0 in numbers else 1

    def __call__(self, name: str) -> Column | None:
        if self.truth.fixed:
            places = {where: n for n, where in self.truth.positions().items()}
            there = self.fixed.get(name)
            known = places.get(tuple(there)) if there else None
            return self.by_name[_plain(known)] if known else None
        if not self.truth.header:
            for names in self.lists:
                if name in names:
                    return self.truth.columns[names.index(name)]
        if _plain(name) in self.by_name:
            return self.by_name[_plain(name)]
        number = _last_number(name)
        at = -1 if self.truth.header or number is None else number - self.first
        return self.truth.columns[at] if 0 <= at < len(self.truth.columns) else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _last_number(name: str) -> int | None:
    digits = re.search(r"(\d+)$", name)
    return int(digits.group(1)) if digits else None


def _sources(voters: Mapping[str, Any]) -> Iterator[str]:
    """Every name of a column of the file that a draft mentions."""
    for part in ("columns", "history", "extra"):
        for key, given in voters.get(part, {}).items():
            if isinstance(given, list):
                yield from given
            elif isinstance(given, str):
                yield given
            elif key != "names":
                yield str(given.get("column", ""))


def _source(given: Any) -> dict[str, Any]:
    return {"column": given} if isinstance(given, str) else dict(given)


def _score_ours(
    kind: str, columns: Mapping[str, Any], truth: Layout, find: _Finder, score: Score
) -> None:
    ours = "county_fips" if kind == "county" else kind
    there = [c for c in truth.columns if c.kind == kind]
    given = columns.get(ours)
    if not given:
        # a file of votes has no voters' columns to place but their id
        if any(c.counted for c in there):
            score.left.append(f"{ours}: {there[0].name}")
        return
    source = _source(given)
    if "value" in source:
        known = ours == "state" and source["value"] == truth.state
        score.add(ours, "" if known else f"always {source['value']!r}")
    elif "column" not in source:
        score.add(ours, f"by row number, and {there[0].name} holds it" if there else "")
    else:
        column = find(source["column"])
        score.add(ours, _fault_of(ours, kind, source, column))


def _fault_of(
    ours: str, kind: str, source: Mapping[str, Any], column: Column | None
) -> str:
    if column is None:
        return f"{source['column']!r} is no column of the layout"
    if column.kind != kind:
        return f"{column.name} is {column.kind}"
    return _wrong_format(ours, source, column) or _wrong_codes(source, column)


def _wrong_format(ours: str, source: Mapping[str, Any], column: Column) -> str:
    if ours not in ("birth_year", "registered_on"):
        return ""
    given = source.get("format")
    formats = {given} if isinstance(given, str) else set(given or ())
    if not column.formats:
        return "" if formats <= {"%Y"} else f"{column.name} is a year, not {given}"
    iso = ours == "registered_on" and set(column.formats) == {"%Y-%m-%d"}
    if set(column.formats) <= formats or (iso and not formats):
        return ""
    return f"{column.name} is written {' or '.join(column.formats)}, not {given}"


def _read(source: Mapping[str, Any], value: str) -> Any:
    """What a cell becomes by a drafted source."""
    if source.get("digits") and value.isdigit():
        value = value.zfill(source["digits"])
    codes = source.get("map")
    if codes is None:
        return value
    if value in codes:
        return codes[value]
    if "default" in source:
        return source["default"]
    return value if source.get("keep") and value else MISSING


def _wrong_codes(source: Mapping[str, Any], column: Column) -> str:
    for code, ours in column.codes.items():
        became = _read(source, code)
        if column.kind == "sex":
            unknown = ours in (None, "U") and (became in (MISSING, "U") or code == "")
            fine = became == ours or unknown
        elif column.kind == "history":
            fine = became is not MISSING and str(became) in (str(ours), f"{ours}.0")
        else:
            fine = became == ours
        if not fine:
            shown = "missing" if became is MISSING else repr(became)
            return f"{column.name}: {code!r} becomes {shown}, not {ours!r}"
    return ""


def _score_history(
    history: Mapping[str, Any], truth: Layout, find: _Finder, score: Score
) -> None:
    placed_columns = set()
    for key, given in history.items():
        source = _source(given)
        column = find(str(source.get("column", "")))
        if column is None or column.kind != "history":
            what = column.kind if column else "no column of the layout"
            score.add(f"history {key}", f"{source.get('column')!r} is {what}")
            continue
        placed_columns.add(column.name)
        fault = (
            ""
            if fnmatchcase(key, column.election)
            else f"{column.name} is {column.election}"
        )
        score.add(f"history {key}", fault or _wrong_codes(source, column))
    score.left += [
        f"history: {column.name}"
        for column in truth.columns
        if column.kind == "history"
        and column.counted
        and column.name not in placed_columns
    ]


def _score_offers(
    draft: Mapping[str, Any],
    voters: Mapping[str, Any],
    truth: Layout,
    find: _Finder,
    score: Score,
) -> None:
    """Special and contact columns that a draft offers as features."""
    features = draft.get("features", {})
    extra = dict(voters.get("extra", {}))
    offered = [*extra.pop("names", []), *features.get("not_special", [])]
    offered += [str(_source(given).get("column", "")) for given in extra.values()]
    offered += [name for name in features.get("columns", []) if name != "*"]
    special = features.get("special_categories", [])
    as_feature = {c.name for c in _matching(offered, truth, find)}
    declared = {c.name for c in _matching(special, truth, find)}
    declared -= {
        c.name for c in _matching(features.get("not_special", []), truth, find)
    }
    for column in truth.columns:
        if column.kind == "contact" and column.name in as_feature:
            score.wrong.append(f"offered: {column.name} is a contact")
        if column.kind != "special":
            continue
        if column.name in declared:
            score.right.append(f"special: {column.name}")
        elif column.name in as_feature:
            score.wrong.append(f"offered: {column.name} is a special category")
        else:
            score.left.append(f"special: {column.name}")


def _matching(names: list[str], truth: Layout, find: _Finder) -> Iterator[Column]:
    for name in names:
        if any(sign in name for sign in "*?["):
            yield from (c for c in truth.columns if fnmatchcase(c.name, name))
        elif (column := find(name)) is not None:
            yield column
