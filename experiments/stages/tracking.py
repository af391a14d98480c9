"""The MLflow run of a run: started by `train`, taken up by later stages."""

from collections.abc import Iterator
from contextlib import contextmanager

from hustings.experiments.stages.context import Run
from hustings.training.registry.register import git_commit, open_store, tracked_run
from hustings.training.registry.track import close_unfinished


@contextmanager
def tracking(run: Run, *, anew: bool = False) -> Iterator[str]:
    """The run's MLflow run, as the active one; gives its id.

    Args:
        run: Whose files say which MLflow run it has.
        anew: Start another, as `train` does: what was trained before stays as it was
            logged, and what was cut off is closed.
    """
    uri = open_store(run.mlflow_uri or None, run.store)
    artifacts = None if run.mlflow_uri else run.store / "artifacts"
    known = run.read_json("run").get("mlflow_run_id")
    if anew and known is not None:
        close_unfinished(known)
        known = None
    commit = git_commit()
    tags = {
        "campaign": run.campaign.campaign.name,
        "git_commit": commit,
        "data_hash": str(run.read_json("run")["data_hash"]),
        "model": run.model,
        "hustings_run": run.run_id,
        # a path of somebody's machine says nothing to others
        "mlflow.source.name": "hustings",
        "mlflow.source.git.commit": commit.partition("+")[0],
    }
    with tracked_run(
        run.campaign.campaign.name, run.run_id, artifacts, tags, resume=known
    ) as run_id:
        if known != run_id:
            run.note(mlflow_run_id=run_id, mlflow_uri=uri.split("@")[-1])
        yield run_id
