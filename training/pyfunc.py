"""The registered model as code: MLflow runs this file when it loads a version.

Rows in the campaign's own voter-file columns in; per voter and message lift, its
interval, response and baseline out, one wide row per voter.
"""

from pathlib import Path

import mlflow
import pandas as pd

from training.model import CampaignModel

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
        scores = self.model.score(voters)
        wide = scores.pivot(
            index="voter_id", columns="message_id", values=list(VALUES)
        ).loc[voters["voter_id"]]
        wide.columns = [f"{value}__{message}" for value, message in wide.columns]
        return wide.rename_axis("voter_id").reset_index()


mlflow.models.set_model(CampaignPyfunc())
