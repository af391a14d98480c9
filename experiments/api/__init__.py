"""The public Python API: from data frames to a verdict, a plan and its measured lift.

No folder and no campaign.toml is needed. Everything here calls what the commands call.
"""
