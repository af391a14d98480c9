"""The MLflow run that `train` starts and later stages resume, and its figures."""

from collections.abc import Iterator
from contextlib import contextmanager

from hustings.experiments.report import figure_png
from hustings.experiments.report.charts import Figure
from hustings.experiments.stages.context import Run, slug
from hustings.features.atomic import whole_file
from hustings.training.registry.register import (
    git_commit,
    log_file,
    open_store,
    tracked_run,
    without_user,
)
from hustings.training.registry.track import close_dead


@contextmanager
def tracking(run: Run, *, anew: bool = False) -> Iterator[str]:
    """Make the MLflow run of a run the active one, and yield its id.

    Runs of the campaign whose process was killed are closed first.

    Args:
        run: Its run.json names the MLflow run.
        anew: Start a new MLflow run, as `train` does: the earlier one stays as it was
            logged.
    """
    uri = open_store(run.mlflow_uri or None, run.store)
    artifacts = None if run.mlflow_uri else run.store / "artifacts"
    close_dead(run.campaign.campaign.name)
    mlflow_run_id = None if anew else run.record().mlflow_run_id
    commit = git_commit()
    tags = {
        "campaign": run.campaign.campaign.name,
        "git_commit": commit,
        "data_hash": str(run.record().data_hash),
        "model": run.model,
        "hustings_run": run.run_id,
        # a path of somebody's machine says nothing to others
        "mlflow.source.name": "hustings",
        "mlflow.source.git.commit": commit.partition("+")[0],
    }
    with tracked_run(
        run.campaign.campaign.name, run.run_id, artifacts, tags, resume=mlflow_run_id
    ) as run_id:
        if mlflow_run_id != run_id:
            run.note(mlflow_run_id=run_id, mlflow_uri=without_user(uri))
        yield run_id


def log_figure(run: Run, name: str, chart: Figure) -> None:
    """Write a chart under `figures/` of the run and log it to the active MLflow run.

    Args:
        run: Whose folder holds the picture.
        name: Of the chart; the file's name is its slug.
        chart: The chart, drawn as PNG.
    """
    path = run.path(f"figures/{slug(name)}.png")
    with whole_file(path) as aside:
        aside.write_bytes(figure_png(chart))
    log_file(path, folder="figures")
