"""How long lists, audiences and scores of many contacts take to be written.

Writes tests/speed/exports.md. Whole exports: checked, written, summed, each file hashed
for the manifest. Beside them the least that any program does: pandas writing the same
columns, and hashlib over texts that are normalised already.
"""

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from hustings.serving.export import Planned
from hustings.serving.export.scores import Slot, System, export_scores
from tests.serving.exports import DAY, export, plan_of, terms_of

pytestmark = pytest.mark.speed

TABLE = Path(__file__).with_name("exports.md")
HEADER = """# Exports of many contacts

Seconds of one process on two shared cores, least of two runs. Whole exports: every
contact checked and written, sums held against the plan, files hashed for the manifest.
Bare: pandas `to_csv` of the same columns, and hashlib over two normalised fields.
`python -m pytest tests/speed/test_exports.py -q -s -m speed` makes this table.

| contacts | what | seconds | bare | ratio |
|---|---|---|---|---|
"""


def many(n: int, channel: str) -> Planned:
    """A plan of n contacts of one channel and day, by two messages, with addresses."""
    small = plan_of(80)
    number = np.arange(n)
    ids = pd.Series(number).map("V{:08}".format)
    plan = pd.DataFrame(
        {
            "voter_id": ids, "message_id": np.where(number % 2, "jobs", "trade, fair"),
            "channel": channel, "send_on": DAY, "cost_usd": 0.5, "lift": 0.01,
            "propensity": 0.8, "role": "plan",
        }
    )  # fmt: skip
    same = ["voter_id", "role", "message_id", "channel", "propensity"]
    assigned = plan[same].assign(intended_message_id="jobs", intended_channel=channel)
    phone = 2_000_000 + number % 7_000_000
    details = pd.DataFrame(
        {
            "voter_id": ids, "name": "Mary " + ids, "email": ids + "@Mail.example",
            "address": pd.Series(number).astype(str) + " Elm Street",
            "phone": "+1650" + pd.Series(phone).astype(str),
        }
    )  # fmt: skip
    return replace(small, plan=plan, assignments=assigned, details=details)


def least(work: Callable[[int], object]) -> float:
    """Seconds of the faster of two runs."""
    taken = []
    for again in range(2):
        started = time.perf_counter()
        work(again)
        taken.append(time.perf_counter() - started)
    return min(taken)


def test_exports_of_many_contacts(tmp_path: Path) -> None:
    rows = [row for n in (100_000, 1_000_000) for row in measured(n, tmp_path / str(n))]
    lines = [
        f"| {n:,} | {what} | {ours:.1f} | {bare:.1f} | {ours / bare:.1f} |"
        for n, what, ours, bare in rows
    ]
    TABLE.write_text(HEADER + "\n".join(lines) + "\n")
    assert max(ours for n, _, ours, _ in rows if n == 100_000) < 30


def measured(n: int, folder: Path) -> list[tuple[int, str, float, float]]:
    """Contacts, what, seconds of ours and of the bare work."""
    mail, social = many(n, "mail"), many(n, "social")
    bare_ids = replace(mail, details=None)
    assert mail.details is not None
    told = mail.plan.drop(columns=["lift", "propensity", "role", "cost_usd"])
    folder.mkdir()
    write = least(lambda _: told.to_csv(folder / "bare.csv", index=False))
    with_details = told.merge(mail.details, on="voter_id")
    write_all = least(lambda _: with_details.to_csv(folder / "b.csv", index=False))
    texts = [*mail.details["email"], *mail.details["phone"]]
    digests = least(lambda _: [hashlib.sha256(t.encode()).hexdigest() for t in texts])
    scores = pd.DataFrame(
        {"voter_id": mail.plan["voter_id"], "support": np.linspace(0, 1, n)}
    )
    zipped = least(
        lambda again: scores.to_csv(folder / f"bare{again}.zip", index=False)
    )
    system = System("id", [Slot("S", "support", "share", 50, 1, decimals=1)], 5)
    nobody = pd.Series("", index=scores.index)

    def score_file(again: int) -> object:
        return export_scores(
            scores, system, folder / "scores", str(again), code=nobody,
            planned=scores["voter_id"], at=DAY,
        )  # fmt: skip

    terms = terms_of(file_format="parquet")
    exports = [
        ("list of ids, CSV", bare_ids, {}, write),
        ("list with addresses, CSV", mail, {}, write_all),
        ("list with addresses, Parquet", mail, {"terms": terms}, write_all),
        ("audience by e-mail and telephone", social, {}, digests),
    ]
    found = []
    for what, plan, given, bare in exports:
        where = folder / what.replace(" ", "_")
        ours = least(lambda k: export(plan, where / f"{k}", **given))  # noqa: B023
        found.append((n, what, ours, bare))
    return [*found, (n, "scores file, zipped", least(score_file), zipped)]
