"""Checks between the tables of a campaign: what one refers to must be in another."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from pathlib import Path

import pandas as pd
import pyarrow
import pyarrow.parquet

from hustings.features.asof import file_before
from hustings.features.ingest.mapping import fault_rows, joined
from hustings.features.ingest.sorting import (
    LEFT_THE_FILE,
    ReadTables,
    SortedTable,
    reasons_in,
)
from hustings.features.ingest.source import is_history
from hustings.features.persons.identity import with_present_ids
from hustings.features.tables import (
    ANY_MESSAGE,
    CONTROL,
    HISTORY_PREFIX,
    NO_CHANNEL,
    REACTION_COUNTS,
    SMALLEST_CELL,
    TableError,
    off_scale,
)

MOST_OFF_SCALE = 0.2
"""A larger share of values off the outcome's scale (and more than `SMALLEST_CELL`) are
no codes for no answer."""
PROPENSITY_TOLERANCE = 1e-6
MAX_SPLIT_SHARE = 0.05
"""More split households than this: the declared unit is wrong, not the rows."""


def no_links(read: ReadTables) -> None:
    """A table that refers to no other."""


def _unknown(read: ReadTables, name: str, column: str, of: str) -> pd.DataFrame:
    """Rows whose voter or message is in no accepted row of its own table."""
    frame = read[name].frame
    if of == "voters":
        is_known = read[of].voters.is_known(frame[column])
    else:
        is_known = frame[column].isin([*read[of].frame[column], CONTROL]).to_numpy()
    unknown = frame[column].notna() & ~is_known
    what = column.removesuffix("_id")
    reason = f"unknown {what}: expected one of the table {of}"
    if of != "voters":
        return fault_rows(unknown, column, frame[column], reason)
    left = unknown & read[of].voters.left(frame[column])
    return joined(
        [
            fault_rows(unknown & ~left, column, frame[column], reason),
            fault_rows(left, column, frame[column], LEFT_THE_FILE),
        ]
    )


def _link_designs(read: ReadTables) -> None:
    designs = read["designs"]
    designs.set_aside(
        joined(
            [_unknown(read, "designs", "message_id", "messages"), _odd_channel(designs)]
        )
    )


def _odd_channel(table: SortedTable) -> pd.DataFrame:
    """Faults of controls with a channel and of messages without one."""
    frame = table.frame
    is_control = frame["message_id"] == CONTROL
    odd = is_control != (frame["channel"] == NO_CHANNEL)
    reason = f"expected channel {NO_CHANNEL!r} for {CONTROL!r} and only for it"
    return fault_rows(
        odd & frame["channel"].notna(), "channel", frame["channel"], reason
    )


def _link_deliveries(read: ReadTables) -> None:
    deliveries = read["deliveries"]
    faults = [
        _unknown(read, "deliveries", "voter_id", "voters"),
        _unknown(read, "deliveries", "message_id", "messages"),
        _odd_channel(deliveries),
    ]
    deliveries.set_aside(joined(faults))
    deliveries.set_aside(_fill_propensity(deliveries, read["designs"].frame))


def _fill_propensity(deliveries: SortedTable, designs: pd.DataFrame) -> pd.DataFrame:
    """Join the design's probability, or compare the one given with it."""
    arm = ["experiment_id", "block", "message_id", "channel"]
    frame = deliveries.frame
    design = designs.drop_duplicates(arm)[[*arm, "probability"]]
    offered = frame[arm].merge(design, on=arm, how="left")
    expected = offered["probability"].set_axis(frame.index)
    no_arm = expected.isna() & frame[arm].notna().all(axis=1)
    arm_texts = frame.loc[no_arm, arm].agg(" / ".join, axis=1) if no_arm.any() else None
    faults = [fault_rows(no_arm, "message_id", arm_texts, "not an arm of the designs")]
    given = frame.get("propensity", expected)
    unlike = (given - expected).abs() > PROPENSITY_TOLERANCE
    unlike &= given.between(0, 1, inclusive="right")
    reason = "propensity unlike the probability of this arm in the designs"
    faults.append(fault_rows(unlike, "propensity", given, reason))
    deliveries.frame = frame.assign(propensity=given.fillna(expected))
    return joined(faults)


_UnitsThen = Callable[[pd.DataFrame, str], pd.Series]
"""Unit of every delivery, of a kind such as household, missing where none is known."""


def units_then(
    read: ReadTables,
    earlier: Mapping[date, Path],
    former: Mapping[str, str],
    drawn: pd.DataFrame,
    column: str,
) -> pd.Series:
    """The unit that each voter was in when a delivery was drawn.

    It is that of the last file observed before the delivery, so that voters who have
    moved since do not look like a household that was split.
    """
    voters = read["voters"]
    if column not in voters.voters.columns:
        unit = column.removesuffix("_id")
        raise TableError(
            f"table deliveries: randomised by {unit}, but voters has no {column}; map "
            f"[tables.voters.columns] {column} in campaign.toml"
        )
    present = voters.voters.column_of(drawn["voter_id"], column)
    units = drawn["voter_id"].map(present)
    days = sorted(day for day in earlier if day != voters.source.observed_on)
    observed = [*days, voters.source.observed_on or date.max]
    file = file_before(drawn["sent_on"], [pd.Timestamp(day) for day in observed])
    for k in sorted(set(file.tolist()) - {-1, len(days)}):
        then = _earlier_column(earlier[days[k]], column, former)
        of_drawn = then.reindex(drawn["voter_id"]).set_axis(drawn.index)
        units = units.mask(file == k, of_drawn.fillna(units))
    return units


def _earlier_column(path: Path, column: str, former: Mapping[str, str]) -> pd.Series:
    """A column of an earlier voter file by present voter id; empty without it."""
    if column not in pyarrow.parquet.read_schema(path).names:
        return pd.Series([], index=pd.Index([], dtype="str"), dtype="str")
    rows = pd.read_parquet(path, columns=["voter_id", column])
    present = under_present_ids(rows, former)
    return present.set_index("voter_id")[column]


def under_present_ids(voters: pd.DataFrame, former: Mapping[str, str]) -> pd.DataFrame:
    """Rows of an earlier voter file under the present ids of its voters.

    Where a file had both ids of a person, the row of the present id counts.

    Args:
        voters: VOTERS, or columns of it.
        former: Former voter id → present one.
    """
    was_former = voters["voter_id"].isin(former).to_numpy(dtype=bool)
    present = with_present_ids(voters["voter_id"], former).astype("str")
    rows = voters.assign(voter_id=present)
    ordered = pd.concat([rows[~was_former], rows[was_former]])
    return ordered.drop_duplicates("voter_id").reset_index(drop=True)


def split_units(deliveries: SortedTable, units_then: _UnitsThen) -> pd.DataFrame:
    """Faults of deliveries whose household or cluster got more than one arm."""
    faults = []
    for unit in ("household", "cluster"):
        drawn = deliveries.frame[deliveries.frame["randomised_by"] == unit]
        if len(drawn):
            units = units_then(drawn, f"{unit}_id").fillna(drawn["voter_id"])
            faults.append(_split(deliveries, drawn.assign(unit_id=units), unit))
    return joined(faults)


def _split(deliveries: SortedTable, rows: pd.DataFrame, unit: str) -> pd.DataFrame:
    same_unit = ["experiment_id", "plan_id", "unit_id"]
    arms = rows.drop_duplicates([*same_unit, "message_id", "channel"])
    several = arms[arms.duplicated(same_unit)].drop_duplicates(same_unit)
    n_units = len(arms.drop_duplicates(same_unit))
    if len(several) > MAX_SPLIT_SHARE * n_units:
        raise TableError(
            f"table deliveries: declared as randomised by {unit}, but {len(several)} "
            f"of {n_units} {unit}s got several arms; "
            + deliveries.source.mend("deliveries", "columns.randomised_by")
        )
    keys = pd.MultiIndex.from_frame(rows[same_unit])
    split = pd.Series(
        keys.isin(pd.MultiIndex.from_frame(several[same_unit])), rows.index
    )
    reason = f"{unit} split between arms, though randomised as one"
    return fault_rows(split, "message_id", rows["message_id"], reason)


def _link_responses(read: ReadTables) -> None:
    responses = read["responses"]
    key = ["voter_id", "experiment_id", "plan_id"]
    frame = responses.frame
    sent = read["deliveries"].frame[[*key, "sent_on"]]
    sent_on = (
        frame[key].merge(sent, on=key, how="left")["sent_on"].set_axis(frame.index)
    )
    none = sent_on.isna() & frame[key].notna().all(axis=1)
    left = none & read["voters"].voters.left(frame["voter_id"])
    early = frame["observed_at"] < sent_on
    faults = [
        fault_rows(left, "voter_id", frame["voter_id"], LEFT_THE_FILE),
        fault_rows(
            none & ~left, "voter_id", frame["voter_id"], "response without a delivery"
        ),
        fault_rows(
            early, "observed_at", frame["observed_at"], "observed before delivery"
        ),
    ]
    responses.set_aside(joined(faults))


def _link_reactions(read: ReadTables) -> None:
    if not read["reactions"].source.other_posts:
        read["reactions"].set_aside(
            _unknown(read, "reactions", "message_id", "messages")
        )


def _link_reaction_counts(read: ReadTables) -> None:
    """Counts of known messages; a cell has one reach, and no more reactors than it."""
    table = read["reaction_counts"]
    table.frame, frame = _cells_named(table.frame), table.frame
    cell = [c for c in REACTION_COUNTS.unique or [] if c != "kind"]
    reach = table.frame.groupby(cell, dropna=False)["reach"]
    several = reach.transform("nunique") > 1
    too_many = frame["n"] > frame["reach"]
    # never the reach itself: it may be of a handful of people
    faults = [
        fault_rows(
            several, "reach", frame["message_id"],
            "expected one reach of all kinds of a cell, got several",
        ),
        fault_rows(
            too_many & (frame["reach"] >= SMALLEST_CELL), "n", frame["n"],
            "expected at most one reaction of a kind from each who was shown it",
        ),
    ]  # fmt: skip
    if not table.source.other_posts:
        faults.append(_unknown(read, "reaction_counts", "message_id", "messages"))
    table.set_aside(joined(faults))


def _cells_named(frame: pd.DataFrame) -> pd.DataFrame:
    """The counts with every column of a cell; one that nobody gave is missing."""
    absent = [c for c in REACTION_COUNTS.unique or [] if c not in frame]
    return frame.assign(**{c: pd.Series(None, frame.index, "str") for c in absent})


def _link_permissions(read: ReadTables) -> None:
    permissions = read["permissions"]
    frame = permissions.frame
    reversed_ = frame["withdrawn_at"] < frame["granted_at"]
    reason = "withdrawn before it was granted"
    permissions.set_aside(
        joined(
            [
                _unknown(read, "permissions", "voter_id", "voters"),
                fault_rows(reversed_, "withdrawn_at", frame["withdrawn_at"], reason),
            ]
        )
    )


def _link_costs(read: ReadTables) -> None:
    costs = read["costs"]
    unknown = _unknown(read, "costs", "message_id", "messages")
    costs.set_aside(unknown[unknown["value"] != ANY_MESSAGE])


def _link_priors(read: ReadTables) -> None:
    priors = read["priors"]
    priors.set_aside(_unknown(read, "priors", "message_id", "messages"))


def _link_forecasts(read: ReadTables) -> None:
    """Forecasts of messages that the campaign has or that were tested before."""
    forecasts, names = read["forecasts"], set(read["messages"].frame["message_id"])
    if "past_effects" in read:
        names |= set(read["past_effects"].frame["message_id"])
    message = forecasts.frame["message_id"]
    reason = "unknown message: expected one of the tables messages and past_effects"
    forecasts.set_aside(fault_rows(~message.isin(names), "message_id", message, reason))


def _link_panel(read: ReadTables) -> None:
    panel = read["panel"]
    panel.set_aside(_unknown(read, "panel", "message_id", "messages"))


def _link_partner_scores(read: ReadTables) -> None:
    """Lifts of known voters and messages, delivered before anything was sent."""
    scores = read["partner_scores"]
    if read["deliveries"].frame.empty:
        return
    first = read["deliveries"].frame["sent_on"].min().normalize()
    late = scores.frame["observed_on"] >= first
    reason = (
        f"expected observed_on before the first delivery, {first.date()}: a score made "
        "later may have seen the outcomes"
    )
    faults = [
        _unknown(read, "partner_scores", "voter_id", "voters"),
        _unknown(read, "partner_scores", "message_id", "messages"),
        fault_rows(late, "observed_on", scores.frame["observed_on"], reason),
    ]
    scores.set_aside(joined(faults))


LINKS: dict[str, Callable[[ReadTables], None]] = {
    "designs": _link_designs,
    "deliveries": _link_deliveries,
    "responses": _link_responses,
    "reactions": _link_reactions,
    "reaction_counts": _link_reaction_counts,
    "permissions": _link_permissions,
    "costs": _link_costs,
    "priors": _link_priors,
    "panel": _link_panel,
    "past_effects": no_links,
    "forecasts": _link_forecasts,
    "partner_scores": _link_partner_scores,
}


def check_responses(read: ReadTables, outcome: str) -> None:
    """Refuse responses without the campaign's outcome."""
    responses = read["responses"]
    if responses.rows_in and not (responses.frame["outcome"] == outcome).any():
        outcome_names = sorted(responses.frame["outcome"].unique())
        raise TableError(
            f"table responses: expected rows with outcome {outcome!r}, got "
            f"{outcome_names}; mend [outcome].name in campaign.toml"
        )


def set_aside_off_scale(
    read: ReadTables, outcome: str, kind: str, scale: tuple[float, float] | None
) -> None:
    """Set aside values that the outcome cannot have: a survey's codes for no answer.

    They are answers that were not given, and no loss of the file; more than
    `MOST_OFF_SCALE` of them say that the scale is wrong.

    Args:
        read: The tables.
        outcome: The outcome that the campaign asks about.
        kind: A "binary" one is 0 or 1.
        scale: Lowest and highest value of the outcome; None where unknown.

    Raises:
        TableError: If the scale is not that of the values.
    """
    responses = read["responses"]
    of_outcome = responses.frame["outcome"] == outcome
    value = responses.frame["value"]
    if kind == "binary":
        odd = of_outcome & ~value.isin([0.0, 1.0])
        reason = "expected 0 or 1 of a binary outcome"
    elif scale is not None:
        odd = of_outcome & ~value.between(*scale)
        reason = off_scale(scale)
    else:
        return
    n, n_odd = int(of_outcome.sum()), int(odd.sum())
    if n_odd == n > 0 or n_odd > max(MOST_OFF_SCALE * n, SMALLEST_CELL):
        raise TableError(
            f"table responses, column 'value': {reason}, got {n_odd:,} of {n:,} others "
            f"as {value[odd].iloc[0]:g}; mend [outcome] kind and scale in "
            "campaign.toml"
        )
    responses.set_aside(fault_rows(odd, "value", value, reason))


def check_experiments(read: ReadTables) -> None:
    """Every experiment sums to 1, offers a control, and has some among its people."""
    designs, deliveries = read["designs"], read["deliveries"].frame
    groups = designs.frame.groupby(["experiment_id", "block"], sort=True)
    for (experiment, block), arms in groups:
        where = f"table designs: experiment {experiment!r}, block {block!r}"
        total = arms["probability"].sum()
        if abs(total - 1) > PROPENSITY_TOLERANCE:
            raise TableError(
                f"{where}: expected probabilities that sum to 1, got {total:.6f}"
                + _set_aside_reasons(designs)
            )
        if CONTROL not in set(arms["message_id"]):
            raise TableError(f"{where}: expected an arm {CONTROL!r}, got none")
    controls = deliveries.loc[deliveries["message_id"] == CONTROL, "experiment_id"]
    bare = sorted(set(deliveries["experiment_id"]) - set(controls))
    if bare:
        raise TableError(
            f"table deliveries: expected controls in experiment {bare[0]!r}, got none: "
            "people who were sent nothing are rows with message_id 'control'"
        )


def _set_aside_reasons(table: SortedTable) -> str:
    reasons = list(reasons_in(table.quarantined()))
    return f"; rows were set aside: {'; '.join(reasons[:3])}" if reasons else ""


def check_costs(read: ReadTables) -> None:
    """Every arm has a price, its own or its channel's."""
    arms = read["designs"].frame.query("message_id != @CONTROL")
    priced = read["costs"].frame
    priced_arms = set(zip(priced["message_id"], priced["channel"], strict=True))
    pairs = arms[["message_id", "channel"]].drop_duplicates()
    for message, channel in pairs.itertuples(index=False):
        if (message, channel) not in priced_arms and (
            ANY_MESSAGE,
            channel,
        ) not in priced_arms:
            raise TableError(
                f"table costs: expected a price of message {message!r} by channel "
                f"{channel!r}, got none; add a row to [tables.costs], or one with "
                f"message_id {ANY_MESSAGE!r} for every message of the channel"
            )


def check_times(read: ReadTables, earlier: Mapping[date, Path]) -> None:
    """Nothing is a feature that was observed at or after the first delivery.

    A file observed later is scored and planned by; what a delivery teaches is learnt
    from the file before it, which must have been there.
    """
    voters = read["voters"]
    if read["deliveries"].frame.empty:
        return
    first = read["deliveries"].frame["sent_on"].min().date()
    observed = voters.source.observed_on
    if observed is None or (
        observed >= first and not any(day < first for day in earlier)
    ):
        raise TableError(
            f"table voters: expected observed_on before the first delivery, {first}, "
            f"got {observed or 'none'}, and no voter file of this campaign was read "
            f"before; {voters.source.mend('voters', 'observed_on')}"
        )
    last, what = (
        (observed, f"the file was observed, {observed}")
        if observed >= first
        else (first, f"the first delivery, {first}")
    )
    for name in filter(is_history, voters.voters.columns):
        held = datetime.strptime(name.removeprefix(HISTORY_PREFIX)[:8], "%Y%m%d").date()  # noqa: DTZ007
        if held >= last:
            raise TableError(
                f"table voters: expected elections before {what}, "
                f"got {name}: what was observed at or after it is no history; "
                + voters.source.mend("voters", "history")
            )
