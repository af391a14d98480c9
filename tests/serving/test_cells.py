"""Cells of place, age band and sex: alike within, never small."""

import numpy as np
import pandas as pd
import pytest

from serving.cells import averaged, cells_for


def voters(n: int = 60) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "voter_id": [f"v{i}" for i in range(n)],
            "age": [30.0] * (n - 5) + [70.0] * 5,
            "sex": ["F"] * n,
            "county_fips": ["26001"] * n,
        }
    )


def test_a_cell_of_fewer_than_twenty_is_no_cell() -> None:
    found = cells_for(voters(), ("place", "age_band", "sex"))
    assert (found.iloc[:55] == "26001 | 25-34 | F").all()
    assert (found.iloc[55:] == "").all()


def test_within_a_cell_everybody_is_worth_the_same_and_small_cells_get_nothing() -> (
    None
):
    cell = cells_for(voters(), ("age_band",))
    value = np.arange(60.0)[:, None]
    allowed = np.ones((60, 1), dtype=bool)
    allowed[0] = False
    found, may = averaged(value, allowed, cell)
    # the mean of those who may get it
    assert found[:55, 0] == pytest.approx(np.arange(1, 55).mean())
    assert not may[55:].any()
    assert not may[0, 0]


def test_a_key_that_no_channel_has_is_told() -> None:
    with pytest.raises(ValueError, match="expected keys of place, age_band, sex"):
        cells_for(voters(), ("income",))
