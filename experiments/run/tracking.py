"""The MLflow run of a run, started by `train` and taken up by later stages."""

from collections.abc import Iterator
from contextlib import contextmanager

from experiments.run.context import Run
from training.register import git_commit, open_store, tracked_run


@contextmanager
def tracking(run: Run) -> Iterator[str]:
    """The run's MLflow run, started by `train` and taken up by later stages."""
    uri = open_store(run.mlflow_uri or None, run.store)
    artifacts = None if run.mlflow_uri else run.store / "artifacts"
    known = run.read_json("run").get("mlflow_run_id")
    tags = {
        "campaign": run.campaign.campaign.name,
        "git_commit": git_commit(),
        "data_hash": str(run.read_json("run")["data_hash"]),
    }
    with tracked_run(
        run.campaign.campaign.name, run.run_id, artifacts, tags, resume=known
    ) as run_id:
        if known != run_id:
            run.note(mlflow_run_id=run_id, mlflow_uri=uri.split("@")[-1])
        yield run_id
