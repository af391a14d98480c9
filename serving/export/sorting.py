"""Contacts of a plan that may be exported, reasons of the others, and the sums."""

from collections.abc import Sequence

import pandas as pd

from hustings.features.membership import among
from hustings.features.tables import ASSIGNMENTS, PLAN, check, in_twenties
from hustings.serving.export.settings import ExportError, Recheck

KEY = ["voter_id", "channel", "message_id", "send_on"]
REFUSED = "refused"
COUNTED = ["channel", "send_on", "message_id"]
STATUS = [*KEY, "code"]
"""Columns of an export's record: ids, and the reason code of refused contacts."""


def checked_contacts(
    plan: pd.DataFrame, assignments: pd.DataFrame, channels: Sequence[str]
) -> pd.DataFrame:
    """The contacts of channels, each of which was assigned to somebody not held out.

    Args:
        plan: PLAN.
        assignments: ASSIGNMENTS of the same plan.
        channels: Which; all where empty.

    Raises:
        ExportError: If a contact is of somebody held out, or was never assigned:
            without its propensity on record it would teach nothing.
    """
    contacts = check(PLAN, plan).reset_index(drop=True)
    assigned = check(ASSIGNMENTS, assignments)
    held = assigned.loc[assigned["role"] == "holdout", "voter_id"]
    n_held = int(among(contacts["voter_id"], held).sum())
    if n_held:
        raise ExportError(
            f"expected no contact of a voter who is held out, got {n_held:,}: the plan "
            "and its assignments do not belong together"
        )
    what = ["message_id", "channel", "role"]
    assigned_of_contact = assigned.set_index("voter_id")[what].reindex(
        contacts["voter_id"]
    )
    unknown = (assigned_of_contact.to_numpy() != contacts[what].to_numpy()).any(axis=1)
    if unknown.any():
        raise ExportError(
            f"expected an assignment of every contact, got none of "
            f"{int(unknown.sum()):,}: their propensities would be lost"
        )
    absent = set(channels) - set(contacts["channel"])
    if absent:
        raise ExportError(
            f"expected a channel of the plan, one of "
            f"{', '.join(sorted(set(contacts['channel'])))}, got {min(absent)!r}"
        )
    if channels:
        contacts = contacts[contacts["channel"].isin(channels)]
    return contacts.reset_index(drop=True)


def recheck_codes(
    contacts: pd.DataFrame, recheck: Recheck, at: pd.Timestamp
) -> pd.Series:
    """Reason code of every contact as things stand now; '' where it may go.

    Raises:
        ExportError: If the check does not answer for every contact.
    """
    code = recheck(contacts, at)
    if not code.index.equals(contacts.index) or code.isna().any():
        raise ExportError(
            f"expected a reason code, or '', for each of {len(contacts):,} contacts, "
            f"got {int(code.notna().sum()):,}"
        )
    return code.astype("str")


def with_earlier(contacts: pd.DataFrame, earlier: pd.DataFrame) -> pd.Series:
    """Code of every contact in an earlier export; missing where it was in none.

    Args:
        contacts: PLAN.
        earlier: STATUS of what has left; the last word of each contact.

    Raises:
        ExportError: If what has left is of another plan.
    """
    if earlier.empty:
        return pd.Series(None, index=contacts.index, dtype="str")
    said = earlier.set_index(KEY)["code"]
    if said.index.has_duplicates:
        raise ExportError("expected each contact once in what has left, got it twice")
    planned_keys = pd.MultiIndex.from_frame(contacts[KEY])
    gone = said.index[said.index.get_level_values("channel").isin(contacts["channel"])]
    strange = ~gone.isin(planned_keys)
    if strange.any():
        raise ExportError(
            f"{int(strange.sum()):,} contacts have left that are not in the plan: "
            "expected a locked plan to stay as it was"
        )
    return said.reindex(planned_keys).set_axis(contacts.index)


def reconciled(contacts: pd.DataFrame, code: pd.Series) -> pd.DataFrame:
    """Planned = exported + refused, by channel, day, message and reason.

    Returns:
        Columns channel, send_on, message_id, code ('' for exported), n, cost_usd.
    """
    coded = contacts[[*COUNTED, "cost_usd"]].assign(code=code)
    counted = coded.groupby([*COUNTED, "code"], observed=True)["cost_usd"]
    sums: pd.DataFrame = (
        counted.agg(n="size", cost_usd="sum")
        .reset_index()
        .sort_values([*COUNTED, "code"])
    )
    return sums.reset_index(drop=True)


def without_reasons(counted: pd.DataFrame) -> pd.DataFrame:
    """Sums as they may be passed on: what was handed out, exactly, and the rest.

    Contacts that were handed out stand in the lists. Why others were not is about
    persons: they are one row, rounded down to twenties with its cost, none below 20.

    Args:
        counted: From `reconciled`.
    """
    exported, refused = counted[counted["code"] == ""], counted[counted["code"] != ""]
    n = in_twenties(int(refused["n"].sum()))
    if not n:
        return exported
    share = n / refused["n"].sum()
    row = {"code": REFUSED, "n": n, "cost_usd": share * refused["cost_usd"].sum()}
    return pd.concat([exported, pd.DataFrame([row])], ignore_index=True)


def require_sums(
    counted: pd.DataFrame, contacts: pd.DataFrame, n_written: pd.Series
) -> None:
    """Refuse an export whose sums do not agree, before anything of it is renamed.

    Args:
        counted: From `reconciled`.
        contacts: PLAN, what was planned.
        n_written: Contacts in the files as written, by channel, day and message; only
            of what left for the first time.

    Raises:
        ExportError: Naming the first channel, day and message that does not agree.
    """
    planned = contacts.groupby(COUNTED, observed=True).size()
    accounted = counted.groupby(COUNTED, observed=True)["n"].sum()
    exported = counted[counted["code"] == ""].set_index(COUNTED)["n"]
    for actual, expected in ((accounted, planned), (n_written, exported)):
        expected = expected.reindex(actual.index.union(expected.index), fill_value=0)
        differ = actual.reindex(expected.index, fill_value=0) != expected
        if differ.any():
            where = ", ".join(str(part) for part in expected.index[differ][0])
            raise ExportError(
                f"{where}: expected {expected[differ].iloc[0]:,} contacts, got "
                f"{actual.reindex(expected.index, fill_value=0)[differ].iloc[0]:,}"
            )
