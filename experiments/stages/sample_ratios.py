"""Sample ratios of every test by week: whether as many got each arm as planned."""

import numpy as np
import pandas as pd

from hustings.experiments.results import WeekRatio
from hustings.experiments.stages.context import Run
from hustings.training.estimators.sample_ratio import (
    MIN_EXPECTED,
    count_p_values,
    failing_periods,
)

_TEST = ["experiment_id", "block", "week"]


def ratios_by_week(run: Run) -> list[WeekRatio]:
    """Weeks whose tests were checked, with how many fail and whether that is chance.

    Args:
        run: Its training set and designs are read.

    Returns:
        One a week, the earliest first.
    """
    return weekly_ratios(run.read("training_set"), run.table("designs"))


def weekly_ratios(rows: pd.DataFrame, designs: pd.DataFrame) -> list[WeekRatio]:
    """Ratios by week of a training set and its designs.

    A block of a test in a week is one check, of the units that were randomised; one in
    which an arm is expected to get fewer than `MIN_EXPECTED` of them says nothing.

    Args:
        rows: One row per decision: experiment_id, block, plan_id, drawn_id, message_id,
            channel, sent_on.
        designs: DESIGNS.
    """
    monday = rows["sent_on"].dt.to_period("W").dt.start_time
    drawn = rows.assign(week=monday).drop_duplicates(
        ["experiment_id", "plan_id", "drawn_id"]
    )
    arm = ["message_id", "channel"]
    n_by_arm = drawn.groupby([*_TEST, *arm], observed=True).size().rename("n")
    checked = drawn[_TEST].drop_duplicates()
    counts = checked.merge(designs, on=["experiment_id", "block"])
    counts = counts[counts["probability"] > 0]
    counts = counts.merge(n_by_arm.reset_index(), on=[*_TEST, *arm], how="left")
    counts["n"] = counts["n"].fillna(0.0)
    expected = counts.groupby(_TEST)["n"].transform("sum") * counts["probability"]
    least = expected.groupby([counts[c] for c in _TEST]).transform("min")
    counts = counts[least >= MIN_EXPECTED]
    if counts.empty:
        return []
    test, names = pd.factorize(pd.MultiIndex.from_frame(counts[_TEST]))
    p_values = count_p_values(
        counts["n"].to_numpy(dtype=np.float64),
        test.astype(np.int64),
        counts["probability"].to_numpy(dtype=np.float64),
    )
    week, weeks = pd.factorize(names.get_level_values(_TEST.index("week")), sort=True)
    return [
        WeekRatio(
            f"{weeks[period.period]:%Y-%m-%d}", period.n_tests, period.n_failing,
            period.p_value, flagged=period.flagged,
        )
        for period in failing_periods(p_values, week.astype(np.int64))
    ]  # fmt: skip
