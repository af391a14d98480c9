"""The registered model as code: MLflow runs this file when it loads a version.

It takes rows in the campaign's own voter-file columns and returns one wide row per
voter: for every message the lift, its interval, the response and the baseline. Rows are
read as those of `POST /score`: a number may be written as text, and a column that is
not there counts as unknown, save the voter's id.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd

from hustings.features.ingest.source import mapping_of_given_rows, wanted_columns
from hustings.features.tables import TableError
from hustings.training.registry.campaign_model import CampaignModel

VALUES = ("lift", "lift_low", "lift_high", "response", "baseline")


class CampaignPyfunc(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """`CampaignModel` behind MLflow's generic interface."""

    def load_context(self, context: mlflow.pyfunc.PythonModelContext) -> None:
        """Read the saved model, once."""
        model = CampaignModel.load(Path(context.artifacts["model"]))
        mapping = mapping_of_given_rows(model.reader.mapping)
        self.model = replace(model, reader=replace(model.reader, mapping=mapping))

    def predict(
        self,
        context: mlflow.pyfunc.PythonModelContext,  # noqa: ARG002 - MLflow's signature
        model_input: pd.DataFrame,
    ) -> pd.DataFrame:
        """Scores in one row per voter: voter_id, then `<value>__<message>` columns.

        Args:
            context: MLflow's.
            model_input: Rows; a server of MLflow hands them over as a list.

        Raises:
            TableError: If a row has no voter's id.
        """
        voters = self.model.reader.voters(self._with_all_columns(model_input))
        if voters["voter_id"].isna().any():
            raise TableError("expected a voter's id in every row, got a row without")
        n, messages = len(voters), self.model.messages
        scores = self.model.score(voters)
        wide = {"voter_id": voters["voter_id"].to_numpy()}
        for message, rows in scores.groupby("message_id", observed=True):
            if len(rows) != n:
                raise ValueError(f"expected {n} scores of {message}, got {len(rows)}")
            wide |= {f"{value}__{message}": rows[value].to_numpy() for value in VALUES}
        columns = [f"{value}__{message}" for value in VALUES for message in messages]
        return pd.DataFrame(wide)[["voter_id", *columns]]

    def _with_all_columns(self, given: Any) -> pd.DataFrame:
        """Rows with every column of the voter file, missing where none was given."""
        rows = pd.DataFrame(given).reset_index(drop=True)
        columns = [column for _, column in wanted_columns(self.model.reader.mapping)]
        absent = [column for column in dict.fromkeys(columns) if column not in rows]
        unknown = pd.DataFrame(dict.fromkeys(absent), index=rows.index)
        return rows.join(unknown.astype("str"))


mlflow.models.set_model(CampaignPyfunc())
