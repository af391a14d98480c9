"""The public Python API: from data frames to a verdict, a plan and its measured lift.

Everything here calls what the commands call. `LiftModel`, `plan`, `measured_lift` and
`power` need no folder and no campaign.toml; `Campaign` reads what the commands wrote.
"""
