"""Hand-made plans as the planner writes them: every required column, and designs."""

import pandas as pd

from hustings.features.tables import CONTROL, NO_CHANNEL, UNDECIDED


def whole(plan: pd.DataFrame, assigned: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The tables of a plan's folder, from contacts and a few columns of assignments.

    A block is all that were meant to get one arm; its design is the shares drawn.
    """
    intended = assigned["intended_message_id"]
    decided = (intended != CONTROL) | (assigned["role"] == "explore")
    rows = assigned.assign(
        block=intended.where(decided, UNDECIDED),
        experiment_id=assigned.get("experiment_id", "test"),
        model_version="m/1",
        predicted_lift=assigned.get("predicted_lift", 0.02),
        pool_probability=assigned.get("pool_probability", 1.0),
        arm_propensity=assigned.get("arm_propensity", assigned["propensity"]),
    )
    key = ["experiment_id", "block"]
    drawn = rows[rows["block"] != UNDECIDED]
    shares = drawn.groupby([*key, "message_id", "channel"], observed=True).size()
    designs = shares.rename("n").reset_index()
    bare = drawn[key].drop_duplicates().assign(
        message_id=CONTROL, channel=NO_CHANNEL, n=1
    )  # fmt: skip
    without = ~pd.MultiIndex.from_frame(bare[key]).isin(
        pd.MultiIndex.from_frame(designs.loc[designs["message_id"] == CONTROL, key])
    )
    designs = pd.concat([designs, bare[without]], ignore_index=True)
    total = designs.groupby(key)["n"].transform("sum")
    designs = designs.assign(probability=designs["n"] / total).drop(columns="n")
    return {"plan": plan, "assignments": rows, "designs": designs}
