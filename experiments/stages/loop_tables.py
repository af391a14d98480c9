"""What the campaign's own plans and answers add to the tables of its files."""

from pathlib import Path

import pandas as pd

from hustings.experiments.record import deliveries_so_far, designs_so_far


def recorded_rows(home: Path, name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Rows that the campaign's record adds to a table.

    Every block of a plan has its own known probabilities, so that training reads a plan
    like any other randomised test.

    Args:
        home: The campaign's folder.
        name: Of the table.
        frame: The table as it is in the campaign's files.
    """
    if name == "designs":
        return designs_so_far(home)
    if name == "deliveries":
        return deliveries_so_far(home)
    return frame.iloc[:0]
