"""Place lists for channels that target places; no row names a person.

A row is a place, or a cell of place, age and sex, with its message and its share of the
money. Everybody who lives there sees the message, held-out voters as well: the row
states how many they are, since they dilute the measured lift.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from hustings.features.affinity import voter_cells
from hustings.serving.export.lists import Built, Part, day_texts
from hustings.serving.export.settings import (
    AGE_BANDS,
    ExportChannel,
    ExportError,
    ExportSettings,
)
from hustings.serving.export.sorting import COUNTED

_BY = ["channel", "send_on", "message_id"]
NUMBERS = ["n_planned", "planned_usd", "n_voters", "n_held_out"]
"""What a list says of a cell."""
PLACES_ONLY = frozenset({"places_only"})
"""Rule sets under which no list of persons leaves, by whatever channel."""


def require_place_lists(rule_set: str, channels: Mapping[str, ExportChannel]) -> None:
    """Refuse to hand persons over where only places may be handed over.

    Args:
        rule_set: Of the campaign.
        channels: Those that are to be given something, by name.

    Raises:
        ExportError: Naming the channels that take persons.
    """
    if rule_set not in PLACES_ONLY:
        return
    of_places = sorted(n for n, c in channels.items() if c.keys and not c.hashed_lists)
    of_persons = sorted(channels.keys() - set(of_places))
    if of_persons:
        instead = f"; --channel {of_places[0]} exports its places" if of_places else ""
        raise ExportError(
            f"rule set {rule_set!r} hands over places and nobody's name: expected "
            f"channels that take place lists, got {', '.join(of_persons)}{instead}"
        )


def place_lists(
    contacts: pd.DataFrame,
    channel: ExportChannel,
    settings: ExportSettings,
    voters: pd.DataFrame,
    held: pd.Series,
    *,
    at: pd.Timestamp,
) -> Built:
    """Place lists of one channel: one per day.

    Args:
        contacts: PLAN rows of the channel that may go.
        channel: What it lets one choose by.
        settings: Which column is the place, and the age bands.
        voters: VOTERS, all of the campaign.
        held: Voter ids of those held out.
        at: Gives the age where only a year of birth is on file.

    Returns:
        Cells of fewer planned contacts than the channel takes are refused, as is
        voters without a cell because place, age or sex is unknown.
    """
    cells = _cells(voters, channel, settings, at)
    cell_of = cells["cell"].reindex(contacts["voter_id"]).set_axis(contacts.index)
    grouped = contacts.assign(cell=cell_of)
    by = [*_BY, "cell"]
    n = grouped.groupby(by, observed=True)["voter_id"].transform("size")
    small = cell_of.isna() | (n.fillna(0) < channel.min_audience)
    refused = pd.Series(np.where(small, "small_cell", ""), index=contacts.index)
    cell_rows = _cell_rows(grouped[~small], cells, held, channel)
    return Built(_parts(cell_rows, "places"), refused.astype("str"))


def changed_places(
    going: pd.DataFrame, gone: pd.DataFrame, built: Built, channel: ExportChannel,
    settings: ExportSettings, voters: pd.DataFrame, *, at: pd.Timestamp,
) -> list[Part]:  # fmt: skip
    """Cells that somebody left, as they are now; one that is too small is empty.

    Args:
        going: PLAN rows that left and may still go, as given to `place_lists`.
        gone: PLAN rows that left and may not go any more.
        built: Of those that may still go, from `place_lists`.
        channel: What it lets one choose by.
        settings: Which column is the place, and the age bands.
        voters: VOTERS.
        at: As given to `place_lists`.
    """
    cells = _cells(voters, channel, settings, at)
    all_gone = pd.concat([gone, going[built.refused != ""]])
    cell_of = cells["cell"].reindex(all_gone["voter_id"]).set_axis(all_gone.index)
    keys = list(channel.keys)
    touched = (
        all_gone.assign(send_on=day_texts(all_gone), cell=cell_of)
        .dropna(subset="cell")
        .drop_duplicates([*_BY, "cell"])[[*_BY, "cell"]]
    )
    where = cells.drop_duplicates("cell").set_index("cell")[keys]
    touched = touched.join(where, on="cell").drop(columns="cell")
    frames = [part.frame for part in built.parts]
    now = pd.concat(frames) if frames else pd.DataFrame(columns=[*_BY, *keys, *NUMBERS])
    cell_rows = touched.merge(now, on=[*_BY, *keys], how="left")
    counted = (
        cell_rows[NUMBERS]
        .astype("float64")
        .fillna(0.0)
        .astype({name: "int64" for name in NUMBERS if name.startswith("n_")})
    )
    return _parts(
        cell_rows.assign(**counted),
        "changed-places",
        none=True,
    )


def _cells(
    voters: pd.DataFrame,
    channel: ExportChannel,
    settings: ExportSettings,
    at: pd.Timestamp,
) -> pd.DataFrame:
    """The cell of every voter, by voter_id; missing where a part of it is unknown."""
    all_keys = voter_cells(voters, AGE_BANDS, settings.place, as_of=at)
    channel_keys = all_keys[list(channel.keys)].set_axis(voters["voter_id"])
    complete = (channel_keys != "").all(axis=1)
    cell = (
        channel_keys.groupby(list(channel.keys), observed=True)
        .ngroup()
        .astype("float64")
    )
    return channel_keys.assign(cell=cell.mask(~complete))


def _cell_rows(
    contacts: pd.DataFrame, cells: pd.DataFrame, held: pd.Series, channel: ExportChannel
) -> pd.DataFrame:
    keys = list(channel.keys)
    dated = contacts.assign(send_on=day_texts(contacts))
    cell_rows = (
        dated.groupby([*_BY, "cell"], observed=True)
        .agg(n_planned=("voter_id", "size"), planned_usd=("cost_usd", "sum"))
        .reset_index()
    )
    where = cells.drop_duplicates("cell").set_index("cell")[keys]
    everybody = cells["cell"].value_counts()
    out = cells.loc[cells.index.isin(held), "cell"].value_counts()
    cell_rows["n_voters"] = cell_rows["cell"].map(everybody).fillna(0).astype("int64")
    cell_rows["n_held_out"] = cell_rows["cell"].map(out).fillna(0).astype("int64")
    cell_rows["planned_usd"] = cell_rows["planned_usd"].round(2)
    return cell_rows.join(where, on="cell")[[*_BY, *keys, *NUMBERS]]


def _parts(cell_rows: pd.DataFrame, stem: str, *, none: bool = False) -> list[Part]:
    parts = []
    for (name, day), rows in cell_rows.groupby(["channel", "send_on"], observed=True):
        counts = rows.groupby(COUNTED, observed=True)["n_planned"].sum()
        counted = counts.rename("n").reset_index()
        counted["send_on"] = pd.to_datetime(counted["send_on"]).astype("datetime64[us]")
        part_counts = counted.iloc[:0] if none else counted
        parts.append(
            Part(f"{stem}-{name}-{day}", rows.reset_index(drop=True), part_counts)
        )
    return parts
