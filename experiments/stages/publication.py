"""Publication of a run: its champion, its bundle and `latest`, from one moment on.

What a run wants to be seen waits in its own folder: the bundle, and a note of what is
to be published. A run that began in a hidden folder counts from the rename of that
folder on, and all that is left to do can be done again: a command that was killed in
between is finished by the next one, before it reads anything.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pandas as pd

from hustings.experiments.plans import DRAFT, plans, reject
from hustings.experiments.results import record_of_run
from hustings.experiments.stages.context import Run, point_to
from hustings.features.atomic import remove_at_once, whole_folder
from hustings.serving.decided import SERVING

UNPUBLISHED = "unpublished.json"
CUT_OFF = "the run that made it was cut off"


def to_publish(run: Run, **what: Any) -> None:
    """Note what of a run is to be seen; `publish` does it.

    Args:
        run: Its folder keeps the note.
        what: `champion` (by whom and when), `bundle`, `latest`.
    """
    before = run.read_json("unpublished") if run.has(UNPUBLISHED) else {}
    run.write_json("unpublished", {**before, **what})


def publish(home: Path, run_id: str, mlflow_uri: str, store: Path) -> None:
    """Make all that a finished run has noted visible; nothing of it a second time.

    The registry comes first, since it may be out of reach: then the rest waits as well.

    Args:
        home: The campaign's folder.
        run_id: The run.
        mlflow_uri: MLflow server; empty for the store.
        store: Folder of the MLflow store where there is no server.

    Raises:
        StoreUnreachableError: If the MLflow server does not answer.
    """
    folder = home / run_id
    note = folder / UNPUBLISHED
    if not note.exists():
        return
    to_show = json.loads(note.read_text())
    if "champion" in to_show:
        # MLflow takes seconds to import
        from hustings.training.registry.register import (
            StoreUnreachableError,
            Version,
            open_store,
            promote,
            server_answers,
        )

        promoted = json.loads((folder / "promoted.json").read_text())
        del promoted["kept"]
        try:
            with server_answers(mlflow_uri):
                open_store(mlflow_uri or None, store)
                promote(Version(**promoted), **to_show["champion"])
        except StoreUnreachableError as gone:
            raise StoreUnreachableError(
                f"{gone}; run {run_id} is finished, and counts once a command finds "
                "the server there"
            ) from None
    if to_show.get("bundle") and (folder / SERVING).is_dir():
        with whole_folder(home / SERVING) as aside:
            shutil.copytree(folder / SERVING, aside, dirs_exist_ok=True)
        # half of it must not be published again
        remove_at_once(folder / SERVING)
    if to_show.get("latest"):
        point_to(home, run_id)
    note.unlink()


def unpublished(home: Path) -> list[str]:
    """Finished runs that were cut off before all of them was visible."""
    return sorted(path.parent.name for path in home.glob(f"[!.]*/{UNPUBLISHED}"))


def publish_again(home: Path) -> list[str]:
    """Finish what commands that were killed had begun to publish; a sentence a run.

    Only the holder of the campaign's lock may ask for it. What an MLflow server that
    does not answer holds up waits for a later command.
    """
    return [_published_again(home, run_id) for run_id in unpublished(home)]


def _published_again(home: Path, run_id: str) -> str:
    # MLflow takes seconds to import
    from hustings.training.registry.register import StoreUnreachableError

    try:
        publish(home, run_id, _store_of(home / run_id), home)
    except StoreUnreachableError as gone:
        return f"Not yet published: {gone}."
    return f"Finished what a command that was cut off had begun: run {run_id}."


def _store_of(folder: Path) -> str:
    """Address of the MLflow store of a run.

    A run does not keep the password of a server's address: the environment has it.
    """
    # MLflow takes seconds to import
    from hustings.training.registry.register import without_user

    recorded = record_of_run(folder).mlflow_uri or ""
    given = os.environ.get("MLFLOW_TRACKING_URI", "")
    return given if without_user(given) == recorded else recorded


def discard_drafts(home: Path, run_id: str, *, at: pd.Timestamp) -> list[str]:
    """Reject the drafts of a run that never was finished; their names.

    Args:
        home: The campaign's folder.
        run_id: The run.
        at: When, for the ledger.
    """
    drafts = [
        name
        for name, record in plans(home).items()
        if record.state == DRAFT and record.draft_body.get("run_id") == run_id
    ]
    for name in drafts:
        reject(home, name, by="hustings", why=CUT_OFF, at=at)
    return drafts
