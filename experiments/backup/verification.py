"""Whether a campaign's ledger, and the files that it names, are as written."""

from dataclasses import dataclass
from pathlib import Path

from hustings.experiments.declaration import Campaign
from hustings.experiments.handover.ballots import ballot_faults
from hustings.experiments.plans import plan_faults, plans
from hustings.experiments.plans.ledger import (
    BEGINNING,
    Head,
    LedgerError,
    head_of,
    noted_heads,
    open_ledger,
)
from hustings.experiments.plans.recorded_files import checked, checked_runs
from hustings.experiments.stages.persons import known_persons, require_tombstones

NOT_NAMED = (
    "the event store (reactions, ballots that came over HTTP, and what was offered and "
    "sent online), which the ledger does not name."
)


@dataclass(frozen=True)
class Verification:
    """What a verification looked at, all of it as it was written.

    Attributes:
        n_entries: Entries of the ledger.
        n_plans: Plans whose files hold.
        n_folders: Exports and files of answers that hold.
        n_heads: Ends of the ledger that runs noted.
        n_runs: Runs, bundles and seals that hold.
        n_keys: Persons who have a key.
        n_tombstones: Exact keys of the forgotten.
        head: The end of the ledger.
        unchecked: What could not be checked, a line each.
    """

    n_entries: int
    n_plans: int
    n_folders: int
    n_heads: int
    n_runs: int
    n_keys: int
    n_tombstones: int
    head: Head
    unchecked: list[str]

    def text(self) -> str:
        """In words."""
        lines = [
            f"{self.n_entries:,} entries hold, as do the files of {self.n_plans} plans "
            f"(from which deliveries are read) and of {self.n_folders} exports and "
            f"files of answers, and the ends that {self.n_heads} runs noted. The end: "
            f"{self.head.seq} {self.head.digest}",
            f"The files of {self.n_runs} runs, bundles and seals hold, by their "
            "checksums.",
            f"{self.n_keys:,} keys of persons and {self.n_tombstones:,} tombstones "
            "hold.",
            *(f"Not checked: {line}" for line in self.unchecked),
        ]
        return "\n".join(lines)


def verified(campaign: Campaign, home: Path, since: str) -> Verification:
    """Check the ledger, every file that it names, checksums, keys and tombstones.

    Args:
        campaign: The declaration.
        home: The campaign's folder.
        since: An end that an earlier verification gave, "ENTRY DIGEST"; empty for all.

    Raises:
        LedgerError: Naming the first altered entry, or every altered file.
        KeysError: If keys or tombstones are lost or damaged.
    """
    runs = checked_runs(home)
    if runs.faults:
        raise LedgerError("; ".join(runs.faults))
    heads = noted_heads(home)
    begin = head_of(since) if since else BEGINNING
    chain = open_ledger(home).verify(heads, since=begin)
    if chain.fault:
        raise LedgerError(f"{chain.n_entries:,} entries hold; {chain.fault}")
    folders = checked(home)
    altered = [
        *plan_faults(home), *folders.faults, *ballot_faults(campaign, home),
    ]  # fmt: skip
    if altered:
        raise LedgerError("; ".join(altered))
    earlier = [f"entries before {begin.seq:,}, verified earlier."] if begin.seq else []
    return Verification(
        n_entries=chain.n_entries,
        n_plans=len(plans(home)),
        n_folders=folders.n_folders,
        n_heads=len(heads),
        n_runs=runs.n_folders,
        n_keys=known_persons(home).keys.check(),
        n_tombstones=require_tombstones(home),
        head=chain.head,
        unchecked=[NOT_NAMED, *earlier, *folders.unchecked, *runs.unchecked],
    )
