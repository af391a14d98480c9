"""The ledger by number of assignments; `scale.md` holds the figures.

`python -m pytest tests/speed/test_ledger.py -q -s -m speed`, with `HUSTINGS_ENTRIES`
for other sizes.
"""

import itertools
import os
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from hustings.experiments.plans.ledger import LEDGER, open_ledger

pytestmark = pytest.mark.speed

AT = pd.Timestamp("2026-09-01T12:00:00Z")
SIZES = os.environ.get("HUSTINGS_ENTRIES", "1e5,1e6").split(",")
BODY = (
    '["plan", "m1", "mail", 0.855, "2026-09-08", 0.6, "m1", "mail", 0.8649, '
    '"spring_test", "b12", 1.0, {lift!r}, "hustings-scale/1"]'
)


@pytest.mark.parametrize("size", SIZES)
def test_a_days_assignments_are_written_and_verified_in_seconds(
    size: str, tmp_path: Path
) -> None:
    ledger, n = open_ledger(tmp_path), int(float(size))
    before = ledger.append("note", {"what": "the day before"}, at=AT)
    clock = [time.process_time()]
    rows = ((i.to_bytes(32, "big"), BODY.format(lift=i / 7)) for i in range(n))
    head = ledger.append_persons("assignment", {}, rows, at=AT)
    clock.append(time.process_time())
    assert ledger.verify([before]).head == head
    clock.append(time.process_time())
    ledger.append("note", {"what": "the day after"}, at=AT)
    assert ledger.verify([before], since=head).n_entries == head.seq + 1
    clock.append(time.process_time())
    written, verified, since = (b - a for a, b in itertools.pairwise(clock))
    n_bytes = (tmp_path / LEDGER).stat().st_size / n
    sys.stdout.write(
        f"\n| {n:,} | {written:.1f} | {verified:.1f} | {since:.2f} | {n_bytes:.0f} |\n"
    )
