"""The registered model as code: MLflow runs this file when it loads a version.

It takes rows in the campaign's own voter-file columns and returns one wide row per
voter: for every message the lift, its interval, the response and the baseline.
"""

from pathlib import Path

import mlflow
import pandas as pd

from hustings.training.registry.campaign_model import CampaignModel

VALUES = ("lift", "lift_low", "lift_high", "response", "baseline")


class CampaignPyfunc(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """`CampaignModel` behind MLflow's generic interface."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Read the saved model, once."""
        self.model = CampaignModel.load(Path(context.artifacts["model"]))

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
    ) -> pd.DataFrame:
        """Scores in one row per voter: voter_id, then `<value>__<message>` columns."""
        voters = self.model.reader.voters(model_input.reset_index(drop=True))
        n, messages = len(voters), self.model.messages
        scores = self.model.score(voters)
        wide = {"voter_id": voters["voter_id"].to_numpy()}
        for message, rows in scores.groupby("message_id", observed=True):
            if len(rows) != n:
                raise ValueError(f"expected {n} scores of {message}, got {len(rows)}")
            wide |= {f"{value}__{message}": rows[value].to_numpy() for value in VALUES}
        columns = [f"{value}__{message}" for value in VALUES for message in messages]
        return pd.DataFrame(wide)[["voter_id", *columns]]


mlflow.models.set_model(CampaignPyfunc())
