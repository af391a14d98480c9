"""Difference of a plan from the last approved one: contacts, money and reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans.folder import PLANS
from hustings.experiments.plans.record import (
    APPROVED,
    BINDING,
    PlanRecord,
    plan_of_name,
)
from hustings.experiments.plans.whole_places import places_of_plan, taken_places
from hustings.features.membership import among
from hustings.features.tables import SMALLEST_CELL, in_twenties

Json = dict[str, Any]
BY = ("message_id", "channel", "county")
_COUNTS = ("before", "now", "added", "removed", "changed")
UNKNOWN = "unknown"
COUNTIES = "counties.parquet"


@dataclass(frozen=True)
class PlanDiff:
    """Contacts of a plan against those of another.

    Attributes:
        plan_id: The plan.
        against: The other; empty where there is none.
        usd: Money of both, places included: before, now.
        n: Contacts: before, now, added, removed, changed.
        by: Of each of `BY`, a frame with columns value, before, now, added, removed,
            changed.
        places: Whole places of both that get something: before, now.
        reasons: Why contacts were removed, and what became of changed ones: columns
            reason and n.
    """

    plan_id: str
    against: str
    usd: tuple[float, float]
    n: dict[str, int]
    by: dict[str, pd.DataFrame]
    places: tuple[int, int]
    reasons: pd.DataFrame

    def counts(self) -> Json:
        """Counts that the ledger keeps of it, as they may be shown."""
        of_places = {"places": list(self.places)} if any(self.places) else {}
        n = self.shown().n
        return {"against": self.against, "usd": list(self.usd), **n, **of_places}

    def shown(self) -> "PlanDiff":
        """The difference as a person sees it.

        The sizes of both plans and their money are the campaign's own. All that tells
        persons apart is rounded down to twenties: what became of them, where they live
        and why.
        """
        sizes = {name: self.n[name] for name in ("before", "now")}
        counts = [name for name in _COUNTS if name not in sizes]
        by = {}
        for name, rows in self.by.items():
            rounded = rows.assign(**{c: rows[c].map(in_twenties) for c in _COUNTS})
            by[name] = rounded[rounded[list(_COUNTS)].any(axis=1)]
        reasons = self.reasons.assign(n=self.reasons["n"].map(in_twenties))
        return replace(
            self,
            n={**sizes, **{name: in_twenties(self.n[name]) for name in counts}},
            by=by,
            reasons=reasons[reasons["n"] > 0],
        )


def counties_of(
    voters: pd.DataFrame, contacts: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """The table of a plan's folder by which contacts are compared by county.

    Args:
        voters: VOTERS.
        contacts: PLAN.

    Returns:
        By name; nothing where the voter file has no counties.
    """
    if "county_fips" not in voters:
        return {}
    is_planned = among(voters["voter_id"], contacts["voter_id"])
    counties = voters.loc[is_planned, ["voter_id", "county_fips"]]
    return {Path(COUNTIES).stem: counties}


def last_agreed(records: Mapping[str, PlanRecord], plan_id: str) -> str:
    """The last plan that somebody approved before this one; empty for none."""
    agreed = [
        (record.of(APPROVED)[-1].seq, name)
        for name, record in records.items()
        if name != plan_id and record.state in {APPROVED, *BINDING}
    ]
    return max(agreed)[1] if agreed else ""


def diff(
    home: Path, records: Mapping[str, PlanRecord], plan_id: str, against: str = ""
) -> PlanDiff:
    """Changes of a plan against another.

    Args:
        home: The campaign's folder.
        records: Plans.
        plan_id: Which.
        against: Another; the last one that somebody approved without.

    Raises:
        PlanStepError: If there is none of these names.
    """
    record = plan_of_name(records, plan_id)
    other = against or last_agreed(records, plan_id)
    if other:
        plan_of_name(records, other)
    now = _contacts(home, plan_id)
    before = _contacts(home, other) if other else now.iloc[:0]
    contacts = before.merge(
        now, on="voter_id", how="outer", suffixes=("_before", "_now"), indicator=True
    )
    contacts["what"] = _what(contacts)
    n = {
        "before": len(before), "now": len(now),
        **{
            w: int((contacts["what"] == w).sum())
            for w in ("added", "removed", "changed")
        },
    }  # fmt: skip
    n_before, usd_before = _places(home, records[other]) if other else (0, 0.0)
    n_now, usd_now = _places(home, record)
    usd = (
        float(before["cost_usd"].sum()) + usd_before,
        float(now["cost_usd"].sum()) + usd_now,
    )
    by = {name: _by(contacts, name) for name in BY}
    binding = other if other and records[other].binds else ""
    reasons = _reasons(home, plan_id, contacts, binding)
    places = (n_before, n_now)
    return PlanDiff(record.plan_id, other, usd, n, by, places, reasons)


def _places(home: Path, record: PlanRecord) -> tuple[int, float]:
    """Whole places of a plan that get something, and what they cost."""
    places = places_of_plan(home / PLANS / record.plan_id, record)
    if places is None:
        return 0, 0.0
    return len(taken_places(places)), float(places["cost_usd"].sum())


def _contacts(home: Path, plan_id: str) -> pd.DataFrame:
    folder = home / PLANS / plan_id
    plan = pd.read_parquet(folder / "plan.parquet")
    plan["county"] = UNKNOWN
    if (folder / COUNTIES).is_file():
        county = pd.read_parquet(folder / COUNTIES).set_index("voter_id")["county_fips"]
        plan["county"] = plan["voter_id"].map(county).fillna(UNKNOWN).astype("str")
    columns = ["voter_id", "message_id", "channel", "send_on", "cost_usd", "county"]
    return plan[columns]


def _what(contacts: pd.DataFrame) -> pd.Series:
    """same, added, removed or changed, of every voter of either plan."""
    same = pd.Series(data=True, index=contacts.index)
    for name in ("message_id", "channel", "send_on"):
        same &= contacts[f"{name}_before"] == contacts[f"{name}_now"]
    what = same.map({True: "same", False: "changed"})
    what = what.mask(contacts["_merge"] == "left_only", "removed")
    return what.mask(contacts["_merge"] == "right_only", "added")


def _by(contacts: pd.DataFrame, name: str) -> pd.DataFrame:
    """Counts by a value; a contact that changed counts at its new one."""
    value = contacts[f"{name}_now"].fillna(contacts[f"{name}_before"])
    counted = pd.DataFrame(
        {
            "before": contacts[f"{name}_before"].value_counts(),
            "now": contacts[f"{name}_now"].value_counts(),
            **{
                w: value[contacts["what"] == w].value_counts()
                for w in ("added", "removed", "changed")
            },
        }
    )
    return counted.fillna(0).astype(int).rename_axis("value").reset_index()


def _reasons(
    home: Path, plan_id: str, contacts: pd.DataFrame, binding: str
) -> pd.DataFrame:
    """Why contacts of the other plan are none of this one, or other ones.

    Args:
        home: The campaign's folder.
        plan_id: The plan.
        contacts: Contacts of either, by voter.
        binding: The other plan, where it has decided its voters for good.
    """
    path = home / PLANS / plan_id / "assignments.parquet"
    role = pd.read_parquet(path).set_index("voter_id")["role"]
    now = contacts["voter_id"].map(role)
    reason = pd.Series("not in this plan: decided before, or not worth its price",
                     index=contacts.index)  # fmt: skip
    reason = reason.mask(now == "plan", "nothing is worth its price any more")
    reason = reason.mask(now == "holdout", "held out")
    reason = reason.mask(now == "explore", "drawn to explore, and got nothing")
    if binding:
        reason[:] = f"decided by plan {binding}"
    reason = reason.where(contacts["what"] == "removed")
    for name, words in (
        ("send_on", "another day"), ("channel", "another channel"),
        ("message_id", "another message"),
    ):  # fmt: skip
        differs = contacts[f"{name}_before"] != contacts[f"{name}_now"]
        reason = reason.mask((contacts["what"] == "changed") & differs, words)
    return reason.value_counts().rename_axis("reason").rename("n").reset_index()


MOST_ROWS = 12
"""Messages, channels or days of a diff that a person is shown."""


def diff_text(changes: PlanDiff) -> str:
    """A diff as a person reads it."""
    changes = changes.shown()
    against = (
        f"against plan {changes.against}" if changes.against else "no plan before it"
    )
    usd, n = changes.usd, changes.n
    lines = [
        f"Plan {changes.plan_id}, {against}",
        f"  {n['now']:,} contacts (before {n['before']:,}): {n['added']:,} added, "
        f"{n['removed']:,} removed, {n['changed']:,} changed (counts but for the "
        f"plans' sizes are rounded down to multiples of {SMALLEST_CELL})",
        f"  {usd[1]:,.2f} USD (before {usd[0]:,.2f})",
    ]
    if any(changes.places):
        lines.append(
            f"  {changes.places[1]:,} whole places (before {changes.places[0]:,})"
        )
    for name, rows in changes.by.items():
        lines += ["", f"  by {name.removesuffix('_id')}"]
        ranked = rows.sort_values(["now", "value"], ascending=[False, True])
        lines += [
            f"    {r.value}: {r.now:,} (before {r.before:,}; +{r.added:,} "
            f"-{r.removed:,}, {r.changed:,} changed)"
            for r in ranked.head(MOST_ROWS).itertuples()
        ]
        if len(ranked) > MOST_ROWS:
            rest = ranked.iloc[MOST_ROWS:]
            lines += [f"    {len(rest)} more: {rest['now'].sum():,} contacts"]
    if len(changes.reasons):
        lines += ["", "  why removed or changed"]
        lines += [f"    {r.reason}: {r.n:,}" for r in changes.reasons.itertuples()]
    return "\n".join(lines)
