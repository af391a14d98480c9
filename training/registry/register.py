"""Registration of models in MLflow: versions, champions, promotion and rollback.

No personal data reach MLflow. It receives parameters, metrics, digests, figures and
the model; the input example is synthetic.
"""

import getpass
import json
import logging
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed_version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import requests

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# MLflow itself would wait for a server that is gone for a quarter of an hour
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "8")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")

import mlflow
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.tracking import MlflowClient
from mlflow.types import ColSpec, DataType, Schema

import hustings
from hustings.features.ingest import ColumnSource, TableSource
from hustings.features.ingest.source import mapping_of_given_rows, our_columns
from hustings.features.lock import locked
from hustings.features.tables import SMALLEST_CELL
from hustings.training.policy_value.results import NOT_LEARNT
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.track import PROCESS, this_process

CHAMPION = "champion"
_SQLITE = "sqlite:///"
ROOT = Path(__file__).resolve().parents[2]
LIBRARIES = (
    "lightgbm", "numpy", "pandas", "scikit-learn", "scipy", "pyarrow", "optuna",
    "mlflow", "pandera", "pydantic", "safetensors", "torch",
)  # fmt: skip
MODEL_LIBRARIES = (
    "lightgbm", "numpy", "pandas", "scipy", "pyarrow", "pandera", "pydantic", "duckdb",
    "safetensors",
)  # fmt: skip
N_EXAMPLE = 3
MOST_CHAMPIONS = 40
"""So many are remembered: a tag holds 5,000 characters."""
ANSWERS_WITHIN_S = 4
"""So long a server is waited for that has not answered a request."""
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
"""As MLflow says that a model has no version of an alias, or is none."""
Json = dict[str, Any]


class StoreUnreachableError(OSError):
    """The MLflow server does not answer; the message says which."""


@dataclass(frozen=True)
class Version:
    """An exact registered version.

    Attributes:
        name: Registered model.
        version: Its number.
        run_id: Run that made it.
        tags: verdict, data_hash, judged_by, git_commit ...
    """

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]

    @property
    def uri(self) -> str:
        """Where MLflow finds exactly this version."""
        return f"models:/{self.name}/{self.version}"


MODEL_CARD = "model_card.md"
"""Artifact of the run that registered a version."""
MOST_DESCRIBED = 5_000
"""A registry's description holds so many characters."""


@dataclass(frozen=True)
class ModelCard:
    """What a person reads of a registered version, in Markdown.

    Attributes:
        summary: Verdict and intended use: the description in the registry.
        text: All of it: the artifact `model_card.md` of the version's run.
    """

    summary: str
    text: str


def registered_name(campaign: str) -> str:
    """Name of a campaign's model in the registry."""
    return f"hustings-{campaign}"


def open_store(uri: str | None, folder: Path) -> str:
    """Point MLflow at a server, or at the SQLite store of a folder.

    Args:
        uri: Tracking URI; None or empty for the store of the folder.
        folder: Holds `mlflow.db` and the artifacts where there is no server.

    Returns:
        The URI in use.

    Raises:
        StoreUnreachableError: If the server does not answer.
    """
    if not uri:
        folder.mkdir(parents=True, exist_ok=True)
        uri = f"{_SQLITE}{folder.resolve() / 'mlflow.db'}"
    for noisy in ("mlflow", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    require_server(uri)
    if uri.startswith(_SQLITE):
        # campaigns share a store, and of two processes that make its tables one fails
        with locked(Path(uri.removeprefix(_SQLITE)).parent / ".lock", wait=True):
            MlflowClient().search_experiments(max_results=1)
            MlflowClient().search_registered_models(max_results=1)
    return uri


@contextmanager
def server_answers(uri: str) -> Iterator[None]:
    """Say of a request that failed when the server is gone, within 30 s.

    Args:
        uri: Of the server; any other store is always there.

    Raises:
        StoreUnreachableError: If a request of the block failed, and the server does not
            answer this one either.
    """
    try:
        yield
    except (MlflowException, requests.RequestException):
        require_server(uri)
        raise


def without_user(uri: str) -> str:
    """Address of an MLflow store without user and password."""
    parts = urlsplit(uri)
    user, _, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=host).geturl() if user else uri


def require_server(uri: str) -> None:
    """Refuse a server that does not answer; from then on nobody waits for it.

    Args:
        uri: Of the server; any other store is always there.

    Raises:
        StoreUnreachableError: Naming its address without a password.
    """
    if not uri.startswith(("http://", "https://")):
        return
    try:
        requests.get(f"{uri.rstrip('/')}/health", timeout=ANSWERS_WITHIN_S)
    except requests.RequestException:
        # MLflow closes the active run, and would wait again
        os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "1"
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        raise StoreUnreachableError(
            f"{without_user(uri)}: expected an MLflow server, it does not answer"
        ) from None


@contextmanager
def tracked_run(
    campaign: str,
    run_name: str,
    artifacts: Path | None,
    tags: Mapping[str, str],
    *,
    resume: str | None = None,
) -> Iterator[str]:
    """One MLflow run of a campaign; gives its run id.

    Args:
        campaign: Names the MLflow experiment.
        run_name: Of the run.
        artifacts: Where a SQLite store keeps artifacts; None leaves it to the server.
        tags: Of the run.
        resume: Run to take up again.
    """
    uri = mlflow.get_tracking_uri()
    if resume is not None:
        # before it runs again: a kill between the two must not name a dead process
        MlflowClient().set_tag(resume, PROCESS, this_process())
        with mlflow.start_run(run_id=resume), server_answers(uri):
            yield resume
        return
    client = MlflowClient()
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        location = (artifacts / campaign).resolve().as_uri() if artifacts else None
        # the page of runs that MLflow shows first is that of trained models
        kind = {"mlflow.experimentKind": "custom_model_development"}
        experiment_id = client.create_experiment(
            campaign, artifact_location=location, tags=kind
        )
    else:
        experiment_id = experiment.experiment_id
    with (
        mlflow.start_run(
            experiment_id=experiment_id,
            run_name=run_name,
            tags={**tags, PROCESS: this_process()},
        ) as run,
        server_answers(uri),
    ):
        yield str(run.info.run_id)


def log_data(frame: pd.DataFrame, *, name: str, context: str) -> str:
    """Digest and schema of a table, never its rows; gives the digest."""
    dataset = mlflow.data.from_pandas(frame, name=name)
    mlflow.log_input(dataset, context=context)
    return str(dataset.digest)


def log_params(params: Mapping[str, Any]) -> None:
    """Parameters of the active run."""
    mlflow.log_params({name: str(value) for name, value in params.items()})


def log_metrics(metrics: Mapping[str, float]) -> None:
    """Metrics of the active run."""
    mlflow.log_metrics(dict(metrics))


def log_tags(tags: Mapping[str, str]) -> None:
    """Tags of the active run."""
    mlflow.set_tags(dict(tags))


def log_file(path: Path, *, folder: str | None = None) -> None:
    """A file as an artifact of the active run."""
    mlflow.log_artifact(str(path), folder)


def synthetic_example(raw: pd.DataFrame, *, seed: int) -> pd.DataFrame:
    """Rows that look like the campaign's voter file and are nobody's.

    Args:
        raw: Rows of the file, in its own columns; numbers are drawn between its
            quartiles, texts among values that at least 20 people share.
        seed: Of the draw.
    """
    rng = np.random.default_rng(seed)
    example: dict[str, Any] = {}
    for name in raw.columns:
        column = raw[name]
        counts = column.value_counts()
        shared = counts.index[counts >= SMALLEST_CELL].sort_values()
        if pd.api.types.is_bool_dtype(column):
            example[str(name)] = rng.random(N_EXAMPLE) < 0.5
        elif pd.api.types.is_datetime64_any_dtype(column):
            example[str(name)] = [
                pd.Timestamp(2000, 1, 1 + i) for i in range(N_EXAMPLE)
            ]
        elif pd.api.types.is_numeric_dtype(column):
            low = float(column.quantile(0.25)) if len(counts) else 0.0
            # halves and no two the same: nobody's, where a file numbers its voters
            unlike = np.floor(low) + 0.5 + np.arange(N_EXAMPLE)
            drawn = rng.choice(shared, N_EXAMPLE) if len(shared) else unlike
            example[str(name)] = drawn.astype(np.float64)
        else:
            nobody = [f"synthetic {name} {i}" for i in range(N_EXAMPLE)]
            drawn = rng.choice(list(shared), N_EXAMPLE) if len(shared) else nobody
            example[str(name)] = [str(v) for v in drawn]
    return pd.DataFrame(example)


def as_numbers(raw: pd.DataFrame, mapping: TableSource) -> pd.DataFrame:
    """Rows of a voter file with numbers for what it holds as the text of a number.

    Args:
        raw: Rows of the file, in its own columns.
        mapping: Of the voters, every column written out.
    """
    kinds = _kinds_read(mapping)
    numbers = {
        name: pd.to_numeric(raw[name], errors="coerce").astype(np.float64)
        for name in map(str, raw.columns)
        if kinds.get(name) == {"number"} and _data_type(raw[name]) == DataType.string
    }
    return raw.assign(**numbers)


def _kinds_read(mapping: TableSource) -> dict[str, set[str]]:
    """As what each column of the file is read; what is mapped is a text in the file."""
    kinds: dict[str, set[str]] = {}
    for name, kind, origin in our_columns(mapping, "voters"):
        read = kind or mapping.types.get(name, "text")
        if origin.column is not None:
            plain = ColumnSource(column=origin.column, missing=origin.missing)
            kinds.setdefault(origin.column, set()).add(
                read if origin == plain else "text"
            )
    return kinds


def signature_of(example: pd.DataFrame, model: CampaignModel) -> ModelSignature:
    """Voter columns in, scores out, under the names that `POST /score` takes.

    The voter's id is required, and so is what only the whole voter file can tell; any
    other column may be left out or missing. The signature says what the columns hold.
    The rows are checked by the model, which reads a number written as text, or a code
    that pandas took for a number, as the campaign's own file is read; MLflow would
    refuse both, and a whole number as well.
    """
    reader = model.reader
    kinds, required = _kinds_read(reader.mapping), _required(model)
    types = {
        str(name): _input_type(example[name], kinds.get(str(name))) for name in example
    }
    texts = set(reader.encoding.levels)
    for name in model.joined_columns:
        types.setdefault(name, DataType.string if name in texts else DataType.double)
    types |= {name: kind for name, kind in required.items() if name not in types}
    inputs = [
        ColSpec(kind, name, required=name in required) for name, kind in types.items()
    ]
    values = ("lift", "lift_low", "lift_high", "response", "baseline")
    outputs = [
        ColSpec(DataType.double, f"{value}__{message}")
        for value in values
        for message in model.messages
    ]
    voter = ColSpec(DataType.string, "voter_id")
    signature = ModelSignature(Schema(inputs), Schema([voter, *outputs]))
    # MLflow's own mark of a model that checks its rows itself
    signature._is_signature_from_type_hint = True
    return signature


def _required(model: CampaignModel) -> dict[str, DataType]:
    """Columns without which a row is not scored."""
    voter_id = mapping_of_given_rows(model.reader.mapping).columns["voter_id"].column
    assert voter_id is not None
    return {
        voter_id: DataType.string,
        **dict.fromkeys(model.reader.whole_file_columns, DataType.double),
    }


def as_signed(example: pd.DataFrame, signature: ModelSignature) -> pd.DataFrame:
    """Rows that keep a signature: nobody's, whose codes are the texts they count as.

    Args:
        example: From `synthetic_example`.
        signature: From `signature_of` of it: MLflow refuses an example that differs.
    """
    added: dict[str, Any] = {}
    for spec in signature.inputs:
        name, is_text = spec.name, spec.type == DataType.string
        if name in example:
            if is_text and _data_type(example[name]) == DataType.double:
                added[name] = example[name].map(lambda code: f"{code:g}")
        elif spec.required:
            nobody = [f"synthetic {name} {i}" for i in range(len(example))]
            added[name] = nobody if is_text else 0.0
    return example.assign(**added)


def _input_type(column: pd.Series, kinds: set[str] | None) -> DataType:
    """Type of a column of the file; a text is one also where it is stored as number."""
    stored_as = _data_type(column)
    is_code = stored_as == DataType.double and kinds == {"text"}
    return DataType.string if is_code else stored_as


def _data_type(column: pd.Series) -> DataType:
    if pd.api.types.is_bool_dtype(column):
        return DataType.boolean
    if pd.api.types.is_datetime64_any_dtype(column):
        return DataType.datetime
    return DataType.double if pd.api.types.is_numeric_dtype(column) else DataType.string


def copy_package(into: Path, parts: Sequence[str]) -> Path:
    """Copy the package with some of its parts, to travel with a model or an endpoint.

    Args:
        into: Folder that gets the folder `hustings`.
        parts: Names of the parts, such as "features".

    Returns:
        The copied package.
    """
    package = Path(hustings.__file__).parent
    copied = into / package.name
    copied.mkdir(parents=True)
    shutil.copyfile(package / "__init__.py", copied / "__init__.py")
    left_out = shutil.ignore_patterns("__pycache__", "*.pyc")
    for part in parts:
        shutil.copytree(package / part, copied / part, ignore=left_out)
    return copied


def log_and_register(
    model: CampaignModel,
    folder: Path,
    example: pd.DataFrame,
    tags: Mapping[str, str],
    card: ModelCard,
) -> Version:
    """Log a saved model in the active run and register it as a new version.

    Args:
        model: The model.
        folder: Where it was saved.
        example: From `synthetic_example`.
        tags: Of the version.
        card: What a person reads of it.
    """
    name = registered_name(model.campaign)
    signature = signature_of(example, model)
    with TemporaryDirectory() as aside:
        code = copy_package(Path(aside), ("features", "training"))
        logged = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("pyfunc.py")),
            artifacts={"model": str(folder)},
            code_paths=[str(code)],
            signature=signature,
            # as a server of MLflow takes rows for such a model: {"inputs": [{...}]}
            input_example=as_signed(example, signature).to_dict("records"),
            pip_requirements=_pinned(MODEL_LIBRARIES),
            registered_model_name=name,
        )
    client = MlflowClient()
    number = str(logged.registered_model_version)
    for key, value in tags.items():
        client.set_model_version_tag(name, number, key, value)
    _describe(name, number, card)
    return _version(name, number)


def _describe(name: str, number: str, card: ModelCard) -> None:
    """Give a version its card, and the links of MLflow's own pages to its files."""
    mlflow.log_text(card.text, MODEL_CARD)
    run = mlflow.active_run()
    assert run is not None
    files = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}/artifacts"
    links = f"[Report]({files}/report.html) · [model card]({files}/{MODEL_CARD})"
    most = MOST_DESCRIBED - len(links) - 2
    client = MlflowClient()
    client.update_model_version(name, number, f"{card.summary[:most]}\n\n{links}")
    client.update_registered_model(
        name,
        "Lift of a campaign's messages by voter. The alias `champion` is the version "
        "that the campaign scores, plans and serves by.",
    )


def model_card_of(version: Version) -> str:
    """The model card of a version, in Markdown.

    Raises:
        FileNotFoundError: If it was registered without one.
    """
    try:
        uri = f"runs:/{version.run_id}/{MODEL_CARD}"
        return str(mlflow.artifacts.load_text(uri))
    except (MlflowException, OSError):
        require_server(mlflow.get_tracking_uri())
        raise FileNotFoundError(
            f"{version.name}/{version.version}: expected {MODEL_CARD} in its MLflow "
            "run, found none; versions registered from now on have one"
        ) from None


def promote(version: Version, *, by: str = "", at: str = "") -> None:
    """Make a version the champion: what scoring, planning and serving take.

    The model's tag `champions` keeps those before it, so that `roll_back` finds them.

    Args:
        version: The new champion.
        by: Who says so.
        at: When.
    """
    before = _champions(version.name)
    champion = {"version": version.version, "by": by, "at": at}
    if not before or before[-1]["version"] != version.version:
        before.append(champion)
    _crown(version.name, before)


def version_before(campaign: str, *, to: str) -> Version:
    """The version that `roll_back` would make the champion.

    Args:
        campaign: Whose model.
        to: See `roll_back`.

    Raises:
        ValueError: See `roll_back`.
    """
    present, champions = _rollback(campaign, to=to)
    return _version(present.name, champions[-1]["version"])


def roll_back(campaign: str, *, to: str, by: str, at: str, why: str) -> Version:
    """Give the alias champion back to a version that had it before.

    Args:
        campaign: Whose model.
        to: Version; empty for the champion before the present one.
        by: Who says so.
        at: When.
        why: In words.

    Returns:
        The champion from now on; its tag `rolled_back_from` says by whom, when, why
        and from which version.

    Raises:
        ValueError: If there is no champion, none before it, or no such version.
    """
    present, champions = _rollback(campaign, to=to)
    number = champions[-1]["version"]
    client = MlflowClient()
    reason = {"version": present.version, "by": by, "at": at, "why": why}
    tag = "rolled_back_from"
    client.set_model_version_tag(present.name, number, tag, json.dumps(reason))
    _crown(present.name, champions)
    return _version(present.name, number)


def _rollback(campaign: str, *, to: str) -> tuple[Version, list[Json]]:
    """The present champion, and the champions that a rollback leaves."""
    present = champion_version(campaign)
    if present is None:
        raise ValueError(
            f"{campaign}: expected a champion to roll back from, got none; "
            "`hustings promote` makes one"
        )
    champions = _history_to(_champions(present.name), present, to)
    _existing(present.name, champions[-1]["version"])
    return present, champions


def _version(name: str, number: str) -> Version:
    registered = MlflowClient().get_model_version(name, number)
    return Version(name, number, str(registered.run_id), dict(registered.tags))


def _history_to(history: list[Json], present: Version, to: str) -> list[Json]:
    """Champions up to the one that is wanted, which comes last."""
    if to == present.version:
        raise ValueError(f"{present.name}: version {to} is the champion already")
    if not to:
        if len(history) < 2:
            raise ValueError(
                f"{present.name}: expected a champion before version "
                f"{present.version}, got none; --to names another version"
            )
        return history[:-1]
    places = [i for i, row in enumerate(history) if row["version"] == to]
    return history[: places[-1] + 1] if places else [*history, {"version": to}]


def _existing(name: str, number: str) -> None:
    try:
        MlflowClient().get_model_version(name, number)
    except MlflowException:
        versions = MlflowClient().search_model_versions(f"name = '{name}'")
        numbers = ", ".join(sorted((str(v.version) for v in versions), key=int))
        raise ValueError(
            f"{name}: expected one of the versions {numbers}, got {number!r}"
        ) from None


def _champions(name: str) -> list[Json]:
    """Champions of a model in their order, the present one last."""
    client = MlflowClient()
    champions: list[Json] = json.loads(
        client.get_registered_model(name).tags.get("champions", "[]")
    )
    try:
        present = str(client.get_model_version_by_alias(name, CHAMPION).version)
    except MlflowException as refusal:
        _require_absent(refusal)
        return []
    # a champion that was made by hand
    if not champions or champions[-1]["version"] != present:
        champions.append({"version": present})
    return champions


def _crown(name: str, champions: list[Json]) -> None:
    """The last of the champions gets the alias, and the history is kept."""
    client = MlflowClient()
    client.set_registered_model_alias(name, CHAMPION, champions[-1]["version"])
    history = json.dumps(champions[-MOST_CHAMPIONS:])
    client.set_registered_model_tag(name, "champions", history)


def champion_version(campaign: str) -> Version | None:
    """The present champion of a campaign, None where there is none."""
    name = registered_name(campaign)
    try:
        version = MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException as refusal:
        _require_absent(refusal)
        return None
    return Version(name, str(version.version), str(version.run_id), dict(version.tags))


def _require_absent(refusal: MlflowException) -> None:
    """Pass over that there is no champion, and not that the registry failed."""
    if refusal.error_code not in _ABSENT:
        raise refusal


def registered_versions(campaign: str) -> list[Version]:
    """Every registered version of a campaign's model, the oldest first."""
    name = registered_name(campaign)
    versions = MlflowClient().search_model_versions(f"name = '{name}'")
    ordered = sorted(versions, key=lambda version: int(version.version))
    return [Version(name, str(v.version), str(v.run_id), dict(v.tags)) for v in ordered]


def earlier_attempts(campaign: str, *, data_hash: str) -> int:
    """How often a promotion of the campaign was tried on other data before.

    Every run with a verdict on what was learnt is an attempt; runs on the same data are
    one look.

    Args:
        campaign: Names the MLflow experiment.
        data_hash: Of the data that are judged now: no earlier attempt.
    """
    client = MlflowClient()
    experiment = client.get_experiment_by_name(campaign)
    if experiment is None:
        return 0
    looked, page = set[str](), None
    while True:
        runs = client.search_runs([experiment.experiment_id], page_token=page)
        tags = [run.data.tags for run in runs]
        looked |= {
            t["data_hash"]
            for t in tags
            if "data_hash" in t and t.get("verdict") not in (None, *NOT_LEARNT)
        }
        page = runs.token
        if not page:
            return len(looked - {data_hash})


def download(version: Version, folder: Path) -> Path:
    """The saved model of an exact version, as `CampaignModel.load` reads it."""
    local = mlflow.artifacts.download_artifacts(
        artifact_uri=version.uri, dst_path=str(folder)
    )
    saved = sorted(Path(local).glob("artifacts/*/model.json"))
    if not saved:
        raise FileNotFoundError(f"{version.uri}: expected artifacts/*/model.json")
    return saved[0].parent


def operator() -> str:
    """Operator of this process: the account's name, or else its number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def environment() -> dict[str, str]:
    """Versions of Python and of the libraries that make a result."""
    versions = {name: installed_version(name) for name in LIBRARIES}
    return {"python": platform.python_version(), **versions}


def git_commit() -> str:
    """Commit of the code, with "+changes" where files differ; "unknown" without git."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+changes" if _git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*arguments: str) -> str:
    completed = subprocess.run(
        ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=True
    )
    return completed.stdout.strip()


def _pinned(names: Sequence[str]) -> list[str]:
    return [f"{name}=={installed_version(name)}" for name in names]
