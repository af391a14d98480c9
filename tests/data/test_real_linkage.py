"""Linkage without labels on public data with known truth, beside Splink's demos."""

from pathlib import Path

import numpy as np
import pytest

from hustings.experiments.declaration import data_dir
from hustings.features.persons.link import THRESHOLD, link_reactors
from tests.speed.linkage import by_demo, by_us, fake_1000, febrl

FOLDER: Path = data_dir()

pytestmark = pytest.mark.skipif(
    not (FOLDER / "linkage").exists(),
    reason=f"the public data is not there: {FOLDER / 'linkage'}; set HUSTINGS_DATA",
)


def test_defaults_are_at_least_as_good_as_the_demo_of_fake_1000() -> None:
    data = fake_1000(FOLDER)
    ours, demo = by_us(data), by_demo(data)
    assert ours.f1(THRESHOLD) >= max(demo.f1(THRESHOLD), demo.f1(data.demo_threshold))
    sure = ours.probability > 0.99
    assert ours.right[sure].mean() > 0.98


def test_every_copy_of_febrl_1_finds_its_original_in_the_other_file() -> None:
    """Two files: 500 copies against 500 originals, one copy each."""
    data = febrl(FOLDER, 1)
    rows = data.ours.assign(voter_id=data.truth, reaction_person=data.truth)
    again = data.truth.duplicated()
    reactors = rows[again].drop(columns="voter_id").reset_index(drop=True)
    voters = rows[~again].drop(columns="reaction_person").reset_index(drop=True)
    found = link_reactors(reactors, voters, seed=1)
    right = found.links["reaction_person"] == found.links["voter_id"]
    assert right.mean() >= 0.995
    assert right.sum() >= 0.99 * len(reactors)
    assert found.summary.expected_false == pytest.approx((~right).sum(), abs=3)
    assert np.isclose(found.summary.share_in_file, 1.0, atol=0.01)
