"""Linkage: beside Splink's demos, how its probabilities hold, a million to a million.

Writes tests/speed/linkage.md.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from hustings.experiments.declaration import data_dir
from hustings.features.persons.link import THRESHOLD
from tests.speed.linkage import (
    DataSet,
    Judged,
    by_demo,
    by_us,
    fake_1000,
    febrl,
    rldata10000,
)

pytestmark = pytest.mark.speed

FOLDER = data_dir()
TABLE = Path(__file__).with_name("linkage.md")
DATA: dict[str, Callable[[], DataSet]] = {
    "FEBRL 1": lambda: febrl(FOLDER, 1),
    "FEBRL 2": lambda: febrl(FOLDER, 2),
    "FEBRL 3": lambda: febrl(FOLDER, 3),
    "fake_1000": lambda: fake_1000(FOLDER),
    "RLdata10000": lambda: rldata10000(FOLDER),
}
BINS = [0.0, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 1.0]
HEADER = """# Linkage without labels

Public data with known truth, duplicates within one file; nobody says which pairs are
right, the truth judges afterwards. F1 of pairs. Splink's demo settings, trained as the
demo trains them, at the demo's own threshold and at .5; ours with the defaults found
from the columns, at the default threshold .5. RLdata10000 has no demo of its own: the
settings of febrl3 for the columns that it has. Our defaults were made while these data
were looked at: they are no test that nobody has seen.
`python -m pytest tests/speed/test_linkage.py -q -s -m speed` makes these tables.

"""


@pytest.fixture(scope="module")
def judged() -> dict[str, tuple[Judged, Judged, float]]:
    if not (FOLDER / "linkage").exists():
        pytest.skip(f"the public data is not there: {FOLDER}; set HUSTINGS_DATA")
    found = {}
    for name, read in DATA.items():
        data = read()
        found[name] = (by_us(data), by_demo(data), data.demo_threshold)
    return found


def _set_part(title: str, lines: list[str]) -> None:
    """Write one part of the table of figures, the others kept."""
    text = TABLE.read_text() if TABLE.exists() else HEADER
    parts = {p.split("\n", 1)[0]: p for p in text.split("\n## ")[1:]}
    parts[title] = "\n".join([title, "", *lines]).rstrip() + "\n"
    body = "\n## ".join([HEADER.rstrip() + "\n", *(parts[k] for k in sorted(parts))])
    TABLE.write_text(body)
    print("\n" + "\n".join(lines))  # noqa: T201 - a benchmark tells its figures


def test_ours_is_at_least_as_good_as_the_demos(judged: dict) -> None:
    lines = [
        "| data | ours | demo, its threshold | demo at .5 | ours, demo at the best "
        "threshold for each, told by the truth |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, (ours, demo, threshold) in judged.items():
        lines.append(
            f"| {name} | {ours.f1(THRESHOLD):.4f} | {demo.f1(threshold):.4f} "
            f"(at {threshold}) | {demo.f1(0.5):.4f} | {ours.best_f1():.4f}, "
            f"{demo.best_f1():.4f} |"
        )
    _set_part("1. F1 beside Splink's demo settings", lines)
    for ours, demo, threshold in judged.values():
        assert ours.f1(THRESHOLD) >= max(demo.f1(threshold), demo.f1(0.5))


def test_probabilities_of_matches_in_bins(judged: dict) -> None:
    lines = [
        "Pairs by predicted probability: how many, predicted, true.", "",
        "| data | " + " | ".join(f"{a:g}-{b:g}" for a, b in pairwise(BINS)) + " |",
        "|---" * len(BINS) + "|",
    ]  # fmt: skip
    for name, (ours, _, _) in judged.items():
        at = np.clip(np.digitize(ours.probability, BINS) - 1, 0, len(BINS) - 2)
        cells = [_cell(ours, at == k) for k in range(len(BINS) - 1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    _set_part("2. Calibration", lines)


def _cell(ours: Judged, at: np.ndarray) -> str:
    if not at.any():
        return "–"
    p, right = ours.probability[at].mean(), ours.right[at].mean()
    return f"{at.sum()}: {p:.3f}, {right:.3f}"


MILLION = """
import json, resource, time
import numpy as np, pandas as pd
from hustings.features.persons.link import link_reactors
n, n_names, n_last, n_places = {n}, 2_000, 20_000, 5_000
rng = np.random.default_rng(1)
syllables = ["ba","be","bo","da","de","do","fi","ga","ha","jo","ka","le","li","ma","mo",
             "na","ni","no","pa","ra","re","ri","ro","sa","se","ta","te","to","va","wi"]
def names(k, parts):
    return np.array(["".join(rng.choice(syllables, parts)) for _ in range(k)])
def zipf(k):
    w = 1 / (10 + np.arange(k)); return w / w.sum()
first, last = names(n_names, 3), names(n_last, 4)
places = np.array([f"{{10_000 + 7 * i}}" for i in range(n_places)])
voters = pd.DataFrame({{
    "voter_id": [f"v{{i}}" for i in range(n)],
    "first_name": rng.choice(first, n, p=zipf(n_names)),
    "last_name": rng.choice(last, n, p=zipf(n_last)),
    "birth_year": rng.integers(1930, 2006, n).astype(str),
    "postcode": rng.choice(places, n, p=zipf(n_places)),
}})
there = rng.random(n) < 0.8
row = rng.permutation(n)
r = voters.iloc[row].reset_index(drop=True)
for k, c in enumerate(list(r)):  # a stranger has every field of another one
    r[c] = r[c].where(there, r[c].sample(frac=1, random_state=k).to_numpy())
def typo(text):
    at = int(rng.integers(1, len(text) - 1))
    return text[:at] + text[at + 1] + text[at] + text[at + 2:]
for c, share in (("first_name", .05), ("last_name", .05)):
    hit = rng.random(n) < share
    r.loc[hit, c] = [typo(t) for t in r.loc[hit, c]]
r.loc[rng.random(n) < .2, "birth_year"] = None
r.loc[rng.random(n) < .1, "postcode"] = None
moved = rng.random(n) < .05
r.loc[moved, "postcode"] = rng.choice(places, moved.sum())
truth = np.where(there, row, -1)
r = r.drop(columns="voter_id").assign(reaction_person=[f"p{{i}}" for i in range(n)])
made = resource.getrusage(resource.RUSAGE_SELF)
started = time.perf_counter()
found = link_reactors(r, voters, seed=1)
used = resource.getrusage(resource.RUSAGE_SELF)
links, told = found.links, found.summary
who = links["reaction_person"].str[1:].astype(int).to_numpy()
right = truth[who] == links["voter_id"].str[1:].astype(int).to_numpy()
print(json.dumps({{
    "wall_s": time.perf_counter() - started,
    "cpu_s": used.ru_utime - made.ru_utime, "peak_gb": used.ru_maxrss / 1e6,
    "before_gb": made.ru_maxrss / 1e6,
    "links": len(links), "false": int((~right).sum()),
    "missed": int(there.sum() - right.sum()),
    "expected_false": told.expected_false, "expected_missed": told.expected_missed,
    "rules": [" + ".join(rule) for rule in told.rules],
}}))
"""


def test_a_million_reactors_against_a_million_voters() -> None:
    out = subprocess.run(
        [sys.executable, "-c", MILLION.format(n=1_000_000)],
        capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert out.returncode == 0, out.stderr[-2000:]
    told = json.loads(out.stdout.splitlines()[-1])
    lines = [
        f"1,000,000 generated reactors (80 % in the file, slips, 20 % without a year, "
        f"10 % without a postcode) × 1,000,000 voters, two cores: {told['wall_s']:.0f} "
        f"s ({told['cpu_s']:.0f} s of processor time), peak {told['peak_gb']:.1f} GB "
        f"({told['before_gb']:.1f} GB of it the two files before linking). "
        f"{told['links']:,} links, {told['false']:,} of them wrong "
        f"(expected {told['expected_false']:,.0f}), {told['missed']:,} missed "
        f"(expected {told['expected_missed']:,.0f}). Rules found: "
        f"{'; '.join(told['rules'])}."
    ]
    _set_part("3. A million to a million", lines)
    assert told["wall_s"] < 1_200
