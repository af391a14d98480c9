"""What holds for every test: nothing is reported to anybody, and time is no judge."""

import os

from hypothesis import settings

# before any test imports them
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
os.environ["BENTOML_DO_NOT_TRACK"] = "true"

# a busy machine is no failure; tests/speed measures time
settings.register_profile("hustings", deadline=None)
settings.load_profile("hustings")
