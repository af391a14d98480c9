"""People who may be linked to the voter file; aggregates of everybody else.

A person who reacted is linked only on a basis that is on record and that the campaign
declares. All others exist only in groups of at least `SMALLEST_CELL` people.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from hustings.features.persons.link.fields import tidy
from hustings.features.reaction import BAD, GOOD, valence
from hustings.features.tables import REACTION_GROUPS, SMALLEST_CELL, check

LINK_BASES = ("consent", "contract", "reply")
"""An opt-in, a sign-up, a reply to the campaign's own message. No other basis can let
somebody be looked for who reacted in public."""
OTHER = "other"
PLACE_LETTERS = 3
"""So many first letters of a postcode are a place."""
AGE_EDGES = [0, 35, 50, 65, 200]
AGE_LABELS = ["under 35", "35-49", "50-64", "65 and over"]
_ABOUT_PERSONS = ["name", "birth_year", "sex", "postcode", "email_sha256"]
_GROUP = ["message_id", "place", "age_band"]


def linkable(reactions: pd.DataFrame, bases: Sequence[str]) -> pd.DataFrame:
    """People who may be linked, with what they gave of themselves.

    Args:
        reactions: REACTIONS table.
        bases: Bases that the campaign declares, each of `LINK_BASES`.

    Returns:
        One row a person: reaction_person and what is known of them; of several values
        the first is taken.

    Raises:
        ValueError: If a basis is none that lets anybody be linked.
    """
    wrong = [b for b in bases if b not in LINK_BASES]
    if wrong:
        raise ValueError(
            f"expected bases among {', '.join(LINK_BASES)}, got {wrong[0]!r}; mend "
            "[link].bases in campaign.toml"
        )
    given = [c for c in _ABOUT_PERSONS if c in reactions]
    rows = reactions[has_basis(reactions, bases)]
    people = rows.groupby("person", sort=True)[given].first().reset_index()
    return people.rename(columns={"person": "reaction_person"})


def has_basis(reactions: pd.DataFrame, bases: Sequence[str]) -> pd.Series:
    """Whether each reaction is of a person with a declared basis on record."""
    if not {"person", "basis"} <= set(reactions) or not bases:
        return pd.Series(data=False, index=reactions.index)
    on_record = reactions["basis"].isin(list(bases)) & reactions["person"].notna()
    with_basis = reactions.loc[on_record, "person"].unique()
    is_linkable: pd.Series = reactions["person"].isin(with_basis)
    return is_linkable & reactions["person"].notna()


def kept_events(
    reactions: pd.DataFrame, bases: Sequence[str], linked_persons: Sequence[str]
) -> pd.DataFrame:
    """Events that stay, with no persons but the pseudonyms of linked people.

    Reactions of people without a basis are all removed: next to the groups that
    count them, the events would reveal people of too small a group.

    Args:
        reactions: REACTIONS table.
        bases: Bases that the campaign declares.
        linked_persons: Pseudonyms that links speak of.
    """
    nameless = reactions.get("person", pd.Series(index=reactions.index)).isna()
    bare = reactions[has_basis(reactions, bases) | nameless]
    bare = bare.drop(columns=[c for c in _ABOUT_PERSONS if c in bare])
    if "person" in bare:
        is_linked = bare["person"].isin(list(linked_persons))
        bare = bare.assign(person=bare["person"].where(is_linked))
    if "basis" in bare:
        bare = bare.assign(basis=bare["basis"].where(bare["person"].notna()))
    return bare.reset_index(drop=True)


def aggregate_reactions(
    reactions: pd.DataFrame,
    *,
    year: int,
    kinds: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Reactions by message, place and age band, no group below `SMALLEST_CELL` people.

    Groups that are too small become one of "other" places and ages of their message;
    were that too small, the next larger groups join it, and where a message has too few
    people in all it is left out. No total comes with the rows, so that nothing
    smaller can be worked out from them. Reactions without a person are left out: one
    person may be all of them.

    Args:
        reactions: REACTIONS table.
        year: Year in which ages are counted.
        kinds: The campaign's own, as `features.reaction.valence`.

    Returns:
        REACTION_GROUPS table.
    """
    rows = _placed(reactions, year, kinds)
    sizes = rows.groupby(_GROUP)["person"].nunique().rename("n").reset_index()
    folded = [
        group for _, cells in sizes.groupby("message_id")
        for group in _folded(cells)
    ]  # fmt: skip
    keys = pd.MultiIndex.from_frame(rows[_GROUP])
    fold = keys.isin(folded)
    rows.loc[fold, ["place", "age_band"]] = OTHER
    grouped = rows.groupby(_GROUP)
    counts = pd.DataFrame(
        {
            "n_people": grouped["person"].nunique(),
            "n_reactions": grouped.size(),
            "n_good": grouped["good"].sum(),
            "n_bad": grouped["bad"].sum(),
        }
    ).reset_index()
    return check(REACTION_GROUPS, counts[counts["n_people"] >= SMALLEST_CELL])


def _placed(
    reactions: pd.DataFrame, year: int, kinds: Mapping[str, str] | None
) -> pd.DataFrame:
    """Reactions of persons with message, place, age band, good and bad."""
    pseudonyms = reactions.get("person", pd.Series(index=reactions.index, dtype="str"))
    of_persons = reactions[pseudonyms.notna()]
    self_reported = tidy(of_persons.reindex(columns=["postcode", "birth_year"])).frame
    age = year - pd.to_numeric(self_reported["birth_year"])
    band = pd.cut(age, AGE_EDGES, right=False, labels=AGE_LABELS).astype("str")
    person = of_persons.get("person", pd.Series(dtype="str"))
    kind = valence(of_persons["kind"], kinds)
    rows = pd.DataFrame(
        {
            "message_id": of_persons["message_id"],
            "person": person,
            "place": self_reported["postcode"].str[:PLACE_LETTERS].fillna("unsaid"),
            "age_band": band.mask(age.isna(), "unsaid"),
            "good": (kind == GOOD).astype(np.int64),
            "bad": (kind == BAD).astype(np.int64),
        }
    )
    # one place and age a person: nobody is in two groups of a message
    first = rows.groupby("person")[["place", "age_band"]].transform("first")
    return rows.assign(place=first["place"], age_band=first["age_band"])


def _folded(cells: pd.DataFrame) -> list[tuple[str, str, str]]:
    """The groups of one message that become "other": the smallest, until enough."""
    ordered = cells.sort_values("n")
    small = int((ordered["n"] < SMALLEST_CELL).sum())
    if small == 0:
        return []
    total = ordered["n"].cumsum().to_numpy()
    # nobody is in two groups of a message, so that people add up
    enough = np.flatnonzero(total >= SMALLEST_CELL)
    last = max(small, int(enough[0]) + 1) if len(enough) else len(ordered)
    return [tuple(key) for key in ordered[_GROUP].head(last).to_numpy().tolist()]
