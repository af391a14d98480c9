"""Queries of a campaign's plans: records, decided voters, batches, spend."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import csv

from hustings.experiments.plans.binding import export_binding
from hustings.experiments.plans.checks import (
    FAILED,
    INVOICES,
    decided,
    has_run,
    unaltered,
)
from hustings.experiments.plans.folder import PLANS, alone, faults, folder_of, recover
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.money import spend, total_usd
from hustings.experiments.plans.online import is_online, online_so_far
from hustings.experiments.plans.record import (
    BINDING,
    DRAFT,
    SENT,
    PlanRecord,
    PlanStepError,
    known_plans,
    plan_of_name,
)
from hustings.experiments.plans.recorded_files import recorded_faults
from hustings.experiments.plans.whole_places import place_batches, places_of_plan
from hustings.features.stored import Stored
from hustings.features.tables import PLAN


@dataclass(frozen=True)
class ListedPlan(Stored):
    """A plan, or a day's contacts that were sent online, as a list has it.

    Attributes:
        plan_id: Its name, or the day's.
        state: Of the plan; of a day, whether its money is spent or reserved.
        n_contacts: Contacts planned, or sent and reserved.
        n_places: Whole places; None where the plan has none.
        usd: What they cost.
        drafted_at: When, ISO 8601; None of a day.
    """

    plan_id: str
    state: str
    n_contacts: int
    n_places: int | None
    usd: float
    drafted_at: str | None

    def line(self) -> str:
        """As a line of the terminal."""
        start = f"{self.plan_id}  {self.state:<9}  {self.n_contacts:>9,} contacts"
        places = "" if self.n_places is None else f"  {self.n_places:,} whole places"
        drafted = "" if self.drafted_at is None else f"  drafted {self.drafted_at[:16]}"
        return f"{start}{places}  {self.usd:>14,.2f} USD{drafted}"


def plans(home: Path) -> dict[str, PlanRecord]:
    """Plans of a campaign, in the order of their drafts, their folders in place."""
    if not (home / PLANS).is_dir():
        return known_plans(open_ledger(home))
    with alone(home):
        plan_records = known_plans(open_ledger(home))
        # another process may have been killed between the ledger and the rename
        recover(home, plan_records)
        export_binding(home, plan_records)
    return plan_records


def offered(home: Path) -> dict[str, PlanRecord]:
    """Plans that a person may look at: no drafts of a run that is not finished."""
    return {
        name: record
        for name, record in plans(home).items()
        if record.state != DRAFT or has_run(home, record)
    }


def listed_plans(home: Path, at: pd.Timestamp) -> list[ListedPlan]:
    """Plans that a person may look at, and then days on which contacts went online.

    Args:
        home: The campaign's folder.
        at: The moment at which offers are open.
    """
    listed = [
        ListedPlan(
            name, record.state, int(record.draft_body["n_contacts"]),
            record.draft_body.get("n_places"), total_usd(record.draft_body["amounts"]),
            record.drafted_at,
        )
        for name, record in offered(home).items()
    ]  # fmt: skip
    money = spent(home, at)
    online = money[money["plan_id"].map(is_online).astype(bool)]
    return listed + [
        ListedPlan(
            str(day), str(state), int(rows["n_committed"].sum()), None,
            float(rows["usd_committed"].sum()), None,
        )
        for (day, state), rows in online.groupby(["plan_id", "state"])
    ]  # fmt: skip


def find(home: Path, name: str = "") -> str:
    """Name of a plan by its beginning; the latest one without.

    Raises:
        PlanStepError: If there is none, or the beginning is that of several.
    """
    plan_records = offered(home)
    near = (
        [n for n in plan_records if n.startswith(name)]
        if name not in plan_records
        else [name]
    )
    if not name and plan_records:
        return near[-1]
    if len(near) != 1:
        there = ", ".join(near or list(plan_records)[-5:]) or "none yet"
        raise PlanStepError(f"expected one of the plans ({there}), got {name!r}")
    return near[0]


def state(home: Path, plan_id: str) -> str:
    """State of a plan.

    Raises:
        PlanStepError: If there is none of this name.
    """
    return plan_of_name(plans(home), plan_id).state


def spent(home: Path, at: pd.Timestamp | None = None) -> pd.DataFrame:
    """Money by plan, channel and day, what was sent online included.

    Args:
        home: The campaign's folder.
        at: The moment at which offers are open, and by which online contacts were
            sent; without it, all that were sent and no offers.

    Returns:
        See `experiments.plans.money.spend`.
    """
    return spend(plans(home), online_so_far(home, at))


def decided_so_far(home: Path) -> pd.DataFrame:
    """Voters whom plans have decided: ASSIGNMENTS with plan_id and decided_on.

    Args:
        home: The campaign's folder.

    Raises:
        PlanStepError: Naming a plan's file that is not what the ledger says.
    """
    return decided(home, unaltered_plans(home), BINDING)


def contacts_sent(home: Path) -> pd.DataFrame:
    """Contacts that were handed to those who deliver them, or sent online.

    Returns:
        PLAN rows with plan_id.
    """
    parts = [
        pd.read_parquet(folder_of(home, name) / file).assign(plan_id=name)
        for name, record in plans(home).items()
        for step in record.of(SENT)
        for file in step.body["files"]
    ]
    columns = [*PLAN.columns, "plan_id"]
    online = online_so_far(home).contacts.rename(
        columns={"decided_on": "send_on", "predicted_lift": "lift"}
    )
    parts += [online[columns]] if len(online) else []
    if not parts:
        return pd.DataFrame({name: [] for name in columns})
    return pd.concat(parts, ignore_index=True)


def unaltered_plans(home: Path) -> dict[str, PlanRecord]:
    """Plans, once their files, exports and answers are all what the ledger says.

    Raises:
        PlanStepError: Naming the first file that is not.
    """
    plan_records = plans(home)
    for record in plan_records.values():
        unaltered(home, record)
    faults = recorded_faults(home)
    if faults:
        raise PlanStepError(f"{faults[0]}; nothing was done")
    return plan_records


def plan_faults(home: Path) -> list[str]:
    """Files of plans that are not what the ledger says; empty where all are."""
    return faults(home, plans(home))


def batches_of(
    home: Path, plan_id: str, *, channel: str = "", day: str = ""
) -> dict[str, pd.Series]:
    """Voters of a plan by batch, one for each channel and day, that may be sent.

    Args:
        home: The campaign's folder.
        plan_id: Which.
        channel: Only this one; all without.
        day: Only this one, YYYY-MM-DD; all without.
    """
    plan_of_name(plans(home), plan_id)
    plan = pd.read_parquet(folder_of(home, plan_id) / "plan.parquet")
    days = plan["send_on"].dt.strftime("%Y-%m-%d")
    return {
        f"{on}-{by}": rows["voter_id"]
        for (on, by), rows in plan.groupby([days, "channel"], observed=True)
        if by == (channel or by) and on == (day or on)
    }


def place_batches_of(
    home: Path, plan_id: str, *, channel: str = "", day: str = ""
) -> dict[str, pd.DataFrame]:
    """PLACES rows of a plan by batch, as `batches_of` has its voters."""
    record = plan_of_name(plans(home), plan_id)
    places = places_of_plan(folder_of(home, plan_id), record)
    return {
        name: rows
        for name, rows in ({} if places is None else place_batches(places)).items()
        if name == f"{day or name[:10]}-{channel or name[11:]}"
    }


def read_returned(
    failed: Path | None, invoices: Path | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results as those who deliver send them: two CSV files.

    Args:
        failed: Columns voter_id and reason; None for no failures.
        invoices: Columns invoice, channel, send_on and amount_usd; None for none.

    Raises:
        PlanStepError: If a file lacks a column or an amount is no number.
        FileNotFoundError: If a file is not there.
    """
    rows = _read(failed, FAILED)
    bills = _read(invoices, INVOICES)
    try:
        days = pd.to_datetime(bills["send_on"].replace("", None), format="%Y-%m-%d")
        amount = pd.to_numeric(bills["amount_usd"]).astype("float64")
    except ValueError as fault:
        raise PlanStepError(
            f"invoices: expected days as YYYY-MM-DD and amounts as numbers: {fault}"
        ) from None
    return rows, bills.assign(send_on=days, amount_usd=amount)


def _read(path: Path | None, columns: tuple[str, ...]) -> pd.DataFrame:
    if path is None:
        return pd.DataFrame({c: pd.Series(dtype="str") for c in columns})
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected a CSV file, found none")
    text = csv.ConvertOptions(column_types={c: pa.string() for c in columns})
    frame: pd.DataFrame = csv.read_csv(path, convert_options=text).to_pandas()
    absent = [c for c in columns if c not in frame]
    if absent:
        raise PlanStepError(
            f"{path.name}: expected columns {', '.join(columns)}, got none named "
            f"{', '.join(absent)}"
        )
    texts: pd.DataFrame = frame[list(columns)].astype("str")
    return texts
