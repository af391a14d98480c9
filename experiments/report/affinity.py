"""The report's section on affinities: groups and places by issue, with intervals.

No group of fewer than `SMALLEST_CELL` voters is on the page.
"""

from collections.abc import Sequence

import pandas as pd

from hustings.experiments.report.markup import (
    Html,
    escaped,
    folded,
    html_block,
    html_section,
    html_table,
    joined,
    paragraph,
)
from hustings.experiments.report.words import people_text
from hustings.features.affinity import ANY, CELL
from hustings.features.tables import SMALLEST_CELL

N_SHOWN = 3
"""Number of groups and of places shown at either end of the ranking."""
SEX_WORDS = {"F": "women", "M": "men"}
_HINT = (
    "From reactions of people's own accord, counted by group and never by person: "
    "the share of those who were shown a message of the issue who react well, "
    "corrected for who was shown it at all and weighed by the voter file. Who reacts "
    "is not drawn at random, so this says who is fond of an issue, not whom a message "
    "moves: nobody is contacted for it. Bold: the interval leaves out the share of all "
    "voters."
)


def affinity_section(affinities: pd.DataFrame | None) -> Html:
    """Groups and places by issue; empty where no reactions were counted.

    Args:
        affinities: AFFINITIES table.
    """
    if affinities is None or affinities.empty:
        return Html("")
    affinities = affinities[affinities["n_voters"] >= SMALLEST_CELL]
    issues = sorted(affinities["issue"].unique())
    return html_section(
        "affinity",
        "Who likes which issue",
        paragraph(_HINT),
        _glance(affinities, issues),
        joined(_issue(affinities, issue) for issue in issues),
    )


def _glance(affinities: pd.DataFrame, issues: Sequence[str]) -> Html:
    """Table of affinities: ages and sexes as rows, issues as columns."""
    groups = _groups(affinities, "age_band", "sex")
    if groups.empty:
        return Html("")
    share = {(r["name"], r["issue"]): _share(r) for _, r in groups.iterrows()}
    names = list(dict.fromkeys(groups.sort_values(["age_band", "sex"])["name"]))
    voters = groups.drop_duplicates("name").set_index("name")["n_voters"]
    rows = [
        [
            name,
            people_text(int(voters[name])),
            *(share.get((name, issue), Html("–")) for issue in issues),
        ]
        for name in names
    ]
    everybody = affinities[(affinities[CELL] == ANY).all(axis=1)].sort_values("issue")
    last = [_share(row) for _, row in everybody.iterrows()]
    rows.append(["everybody", people_text(int(everybody["n_voters"].max())), *last])
    return html_table(
        "Share of those shown a message of the issue who react well",
        ["Group", "Voters", *issues], rows,
    )  # fmt: skip


def _groups(affinities: pd.DataFrame, *parts: str) -> pd.DataFrame:
    """Margins over the given parts of the cell, with a name for each group."""
    there = [c for c in parts if (affinities[c] != ANY).any()]
    if not there:
        return affinities.head(0)
    is_group = pd.concat([affinities[c] != ANY for c in there], axis=1).all(axis=1)
    other_parts = [c for c in CELL if c not in there]
    is_group &= (affinities[other_parts] == ANY).all(axis=1)
    # people of unknown sex are no group that anybody could speak to
    groups = affinities[is_group & (affinities["sex"] != "U")]
    names = [
        _cell_in_words(row) for row in groups[CELL].itertuples(index=False, name=None)
    ]
    everybody_by_issue = affinities[(affinities[CELL] == ANY).all(axis=1)].set_index(
        "issue"
    )
    everybody = groups["issue"].map(everybody_by_issue["affinity"])
    differs = (groups["low"] > everybody) | (groups["high"] < everybody)
    return groups.assign(name=names, differs=differs)


def _cell_in_words(cell: Sequence[str]) -> str:
    """A cell in words.

    >>> _cell_in_words(("65+", "F", ""))
    'women, 65+'
    """
    age, sex, place = cell
    return ", ".join(w for w in (SEX_WORDS.get(sex, sex), age, place) if w)


def _share(row: pd.Series) -> Html:
    share = f"{100 * row['affinity']:.1f} %"
    if row.get("differs", False):
        return Html(f"<strong>{share}</strong>")
    return escaped(share)


def _issue(affinities: pd.DataFrame, issue: str) -> Html:
    """The groups and places at both ends, and where their voters are."""
    of_issue = affinities[affinities["issue"] == issue]
    parts = [
        _ends(of_issue, _groups(of_issue, "age_band", "sex"), "Groups", where=True),
        _ends(of_issue, _groups(of_issue, "place"), "Places", where=False),
    ]
    return folded(issue.capitalize(), joined(parts))


def _ends(
    of_issue: pd.DataFrame, groups: pd.DataFrame, title: str, *, where: bool
) -> Html:
    if groups.empty:
        return Html("")
    ranked = groups.sort_values("affinity", ascending=False, kind="stable")
    n = min(N_SHOWN, len(ranked) // 2)
    ends = pd.concat([ranked.head(n), ranked.tail(n)])
    header = ["", title[:-1], "React well", "95 % interval", "Voters in the file"]
    rows = [
        [
            "most" if i < n else "least",
            row["name"],
            _share(row),
            f"{100 * row['low']:.1f} to {100 * row['high']:.1f} %",
            people_text(int(row["n_voters"])),
            *([_places_of(of_issue, row)] if where else []),
        ]
        for i, (_, row) in enumerate(ends.iterrows())
    ]
    if where:
        header.append("Most of them in")
    table = html_table(f"{title} that like it most and least", header, rows, words=2)
    return html_block(title, table)


def _places_of(of_issue: pd.DataFrame, group: pd.Series) -> str:
    """Where the voters of a group are: the places with most of them."""
    cells = of_issue[
        (of_issue["age_band"] == group["age_band"]) & (of_issue["sex"] == group["sex"])
    ]
    cells = cells[cells["place"] != ANY].nlargest(N_SHOWN, "n_voters")
    return ", ".join(
        f"{place} ({people_text(int(n))})"
        for place, n in zip(cells["place"], cells["n_voters"], strict=True)
    )
