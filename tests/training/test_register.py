"""A registered version predicts as offline, names nobody and runs nothing."""

import base64
import hashlib
import hmac
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from queue import Queue
from threading import Thread
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.types import DataType

from hustings.features.ingest import ColumnSource, TableSource
from hustings.features.ingest.source import RowFilter
from hustings.features.persons.linked_reactions import REACTED_PREFIX
from hustings.features.tables import FROM_THE_FILE, TableError
from hustings.serving.voter_rows import VoterReader
from hustings.training.registry.campaign_model import CampaignModel
from hustings.training.registry.register import (
    ModelCard,
    Version,
    as_numbers,
    as_signed,
    champion_version,
    download,
    log_and_register,
    log_data,
    log_metrics,
    log_params,
    model_card_of,
    open_store,
    promote,
    registered_name,
    roll_back,
    signature_of,
    synthetic_example,
    tracked_run,
)
from tests.checkout import environment

ROOT = Path(__file__).parents[2]
CARD = ModelCard("**Spring**: personalising pays.", "# Spring\n\nAll of it.\n")
TAGS = {"verdict": "personalise", "data_hash": "d" * 64, "judged_by": "r1"}


@dataclass(frozen=True)
class Store:
    uri: str
    folder: Path
    version: Version


def example_of(modelled) -> pd.DataFrame:
    return synthetic_example(modelled.raw.head(2_000), seed=1)


def register(modelled, folder: Path, artifacts: Path | None) -> Version:
    """What the stages train to promote send to MLflow."""
    modelled.model.save(folder / "model")
    with tracked_run("sample", "run1", artifacts, {"campaign": "sample"}) as run_id:
        log_params({"seed": 1})
        rows = modelled.training_set
        frame = rows.features.assign(outcome=rows.rows["outcome"])
        log_data(frame, name="sample", context="training")
        log_metrics({"gain": 1.5})
    with tracked_run("sample", "run1", artifacts, {}, resume=run_id) as again:
        assert again == run_id
        return log_and_register(
            modelled.model, folder / "model", example_of(modelled), TAGS, CARD
        )


@pytest.fixture(scope="module")
def store(modelled, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    home = tmp_path_factory.mktemp("store")
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    uri = open_store(None, home / "mlflow")
    yield Store(uri, home, register(modelled, home, home / "mlflow" / "artifacts"))
    mlflow.set_tracking_uri(before[0])
    mlflow.set_registry_uri(before[1])


@pytest.fixture(autouse=True)
def _opened(request: pytest.FixtureRequest) -> None:
    """Another test may have pointed MLflow elsewhere."""
    if "store" in request.fixturenames:
        found = request.getfixturevalue("store")
        open_store(found.uri, found.folder)


def offline(modelled, raw: pd.DataFrame) -> pd.DataFrame:
    scores = modelled.model.score(modelled.model.reader.voters(raw))
    return scores.astype({"voter_id": "str", "message_id": "str"})


def assert_as_offline(wide: pd.DataFrame, modelled, raw: pd.DataFrame) -> None:
    expected = offline(modelled, raw).set_index(["voter_id", "message_id"])
    assert wide["voter_id"].tolist() == raw["voter_id"].tolist()
    for message in modelled.model.messages:
        mine = expected.xs(message, level="message_id").loc[wide["voter_id"]]
        for value in ("lift", "lift_low", "lift_high", "response", "baseline"):
            np.testing.assert_array_equal(wide[f"{value}__{message}"], mine[value])


def test_a_version_carries_its_tags_and_is_found_by_its_number(store: Store) -> None:
    assert store.version.name == registered_name("sample") == "hustings-sample"
    assert store.version.version == "1"
    assert store.version.uri == "models:/hustings-sample/1"
    assert store.version.tags == TAGS
    run = mlflow.get_run(store.version.run_id)
    assert run.data.metrics == {"gain": 1.5}
    assert run.data.params == {"seed": "1"}
    (given,) = run.inputs.dataset_inputs
    assert given.dataset.name == "sample"
    assert json.loads(given.dataset.profile)["num_rows"] == 3_000


def test_the_champion_is_what_was_promoted_and_nothing_before(
    modelled, store: Store, tmp_path: Path
) -> None:
    assert champion_version("never registered") is None
    promote(store.version)
    assert champion_version("sample") == store.version
    second = register(modelled, tmp_path, store.folder / "mlflow" / "artifacts")
    assert int(second.version) > int(store.version.version)
    assert champion_version("sample") == store.version
    promote(second)
    assert champion_version("sample") == second
    promote(store.version)
    assert champion_version("sample") == store.version


def test_mlflow_has_nothing_to_object_to_the_example(
    modelled, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It predicts on the example when the model is logged, and warns where it fails."""
    register(modelled, tmp_path, store.folder / "mlflow" / "artifacts")
    told = [r.getMessage() for r in caplog.records if r.name.startswith("mlflow")]
    assert not [t for t in told if "input example" in t]


def test_an_exact_version_comes_back_as_it_was_saved(
    modelled, store: Store, tmp_path: Path
) -> None:
    again = CampaignModel.load(download(store.version, tmp_path))
    few = modelled.voters.head(50)
    pd.testing.assert_frame_equal(again.score(few), modelled.model.score(few))


def test_the_champion_predicts_in_a_process_without_the_repository(
    modelled, store: Store, tmp_path: Path
) -> None:
    """By the code that was logged with it, from another folder."""
    promote(store.version)
    raw = modelled.raw.head(200)
    raw.to_parquet(tmp_path / "raw.parquet")
    code = f"""
import os, sys
from pathlib import Path
from importlib.util import find_spec
root = Path({str(ROOT)!r})
sys.path = [p for p in sys.path if not (Path(p) / "hustings").exists()]
sys.meta_path = [f for f in sys.meta_path if "editable" not in repr(f).lower()]
assert find_spec("hustings") is None
import mlflow, pandas as pd
mlflow.set_tracking_uri({store.uri!r})
model = mlflow.pyfunc.load_model("models:/hustings-sample@champion")
from hustings.training.registry import campaign_model
assert root not in Path(campaign_model.__file__).resolve().parents
model.predict(pd.read_parquet("raw.parquet")).to_parquet("scores.parquet")
"""
    there = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=there, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert_as_offline(pd.read_parquet(tmp_path / "scores.parquet"), modelled, raw)


def files_of(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file()]


def test_nothing_in_the_store_can_be_unpickled(store: Store) -> None:
    files = files_of(store.folder)
    assert any(file.name == "MLmodel" for file in files)
    for file in files:
        assert file.suffix not in {".pkl", ".pickle", ".joblib", ".pt"}, file
        assert not file.read_bytes().startswith((b"\x80\x03", b"\x80\x04", b"\x80\x05"))


def test_no_voter_is_named_anywhere_in_the_store(modelled, store: Store) -> None:
    ids = set(modelled.voters["voter_id"]) | set(modelled.voters["household_id"])
    pattern = re.compile(rb"[VH]\d{6,7}")
    for file in files_of(store.folder):
        found = {m.decode() for m in pattern.findall(file.read_bytes())}
        assert not found & ids, file
    database = (store.folder / "mlflow" / "mlflow.db").read_bytes()
    assert b"hustings-sample" in database


def test_the_signature_is_that_of_a_raw_row(modelled, store: Store) -> None:
    model = mlflow.pyfunc.load_model(store.version.uri)
    inputs = model.metadata.get_input_schema()
    assert inputs.input_names() == modelled.raw.columns.tolist()
    assert [c.name for c in inputs.inputs if c.required] == ["voter_id"]
    scored = model.predict(example_of(modelled))
    assert len(scored) == len(example_of(modelled))
    assert list(scored) == model.metadata.get_output_schema().input_names()
    assert np.isfinite(scored.filter(like="lift__")).all(axis=None)


def test_the_signature_names_what_a_row_must_bring_and_what_it_may(modelled) -> None:
    """A file whose voters are numbered, features of the whole file and joined ones."""
    reader = modelled.model.reader
    mapping = reader.mapping.model_copy(
        update={"columns": {**reader.mapping.columns,
                            "voter_id": ColumnSource(row_number="V")}}
    )  # fmt: skip
    file_column = f"{FROM_THE_FILE[0]}size"
    beside = (file_column, f"{REACTED_PREFIX}health")
    columns = (*reader.feature_columns, *beside)
    model = replace(
        modelled.model, reader=replace(reader, mapping=mapping, feature_columns=columns)
    )
    example = example_of(modelled).drop(columns="voter_id")
    signature = signature_of(example, model)
    inputs = {spec.name: spec for spec in signature.inputs}
    required = {name for name, spec in inputs.items() if spec.required}
    assert required == {"voter_id", file_column}
    assert inputs["voter_id"].type == DataType.string
    assert {inputs[name].type for name in beside} == {DataType.double}
    online = VoterReader.of(
        mapping, model.reader.whole_file_columns, model.joined_columns
    )
    assert set(inputs) == set(online.columns)
    given = as_signed(example, signature)
    assert required <= set(given)
    assert not set(given["voter_id"]) & set(modelled.raw["voter_id"])


def test_rows_that_a_filter_of_the_file_would_leave_out_are_scored(
    modelled, store: Store, tmp_path: Path
) -> None:
    """Whoever is asked about belongs to the table, as over HTTP."""
    reader = modelled.model.reader
    where = RowFilter(column="sex", equals="F")
    columns = {**reader.mapping.columns, "voter_id": ColumnSource(row_number="V")}
    mapping = reader.mapping.model_copy(update={"columns": columns, "where": where})
    model = replace(modelled.model, reader=replace(reader, mapping=mapping))
    model.save(tmp_path / "model")
    with tracked_run("sample", "run1", store.folder / "mlflow" / "artifacts", {}):
        version = log_and_register(
            model, tmp_path / "model", example_of(modelled), TAGS, CARD
        )
    raw = modelled.raw.head(40)
    assert {"F", "M"} <= set(raw["sex"])
    wide = mlflow.pyfunc.load_model(version.uri).predict(raw)
    assert_as_offline(wide, modelled, raw)


def test_the_model_reads_rows_of_a_csv_file_as_the_endpoint_does(
    modelled, store: Store, tmp_path: Path
) -> None:
    model, file = mlflow.pyfunc.load_model(store.version.uri), tmp_path / "voters.csv"
    modelled.raw.head(40).to_csv(file, index=False)
    as_read = pd.read_csv(file)  # noqa: TID251 - as a user of the model reads it
    texts = pd.read_csv(file, dtype="str")  # noqa: TID251
    assert pd.api.types.is_integer_dtype(as_read["postcode"])
    left_out = ["household_id", "income_usd", "homeowner"]
    reader = VoterReader.of(modelled.model.reader.mapping)
    for rows, unknown in (
        (as_read, []), (texts, []), (as_read.drop(columns=left_out), left_out),
        (texts.drop(columns=left_out), left_out),
    ):  # fmt: skip
        given = rows.astype(object).where(rows.notna(), None).to_dict("records")
        voters, missing, _ = reader.read(given)
        assert missing == unknown
        voters = voters.frame(list(voters.columns))
        expected = modelled.model.score(voters).set_index("message_id")
        for form in (rows, given):
            scored = model.predict(form)
            for message in modelled.model.messages:
                np.testing.assert_array_equal(
                    scored[f"lift__{message}"], expected.loc[message, "lift"]
                )
    with pytest.raises(TableError, match="a voter's id in every row"):
        model.predict(texts.drop(columns="voter_id"))


@pytest.mark.parametrize("stored", ["text", "numbers"])
def test_a_column_is_a_number_in_the_signature_by_what_it_is_read_as(
    modelled, stored: str
) -> None:
    mapping = TableSource.model_validate(
        {
            "path": "v.csv", "source": "s", "licence": "l", "permitted_use": "p",
            "columns": {
                "voter_id": "ID", "age": "AGE",
                "postcode": {"column": "ZIP", "digits": 5},
                "birth_year": {"column": "BORN", "format": "%Y%m%d"}, "precinct": "PCT",
                "sex": {"column": "SEX", "map": {"1": "M", "2": "F"}},
            },
            "history": {
                "2022-11-08 general": "G22",
                "2024-11-05 general": {"column": "G24", "map": {"1": 1, "0": 0}},
            },
            "extra": {
                "income": "INCOME", "town": "TOWN",
                "house_usd": {"column": "HOUSE", "unit": "$", "thousands": ","},
            },
            "types": {"income": "number", "town": "text", "house_usd": "number"},
        }
    )  # fmt: skip
    columns = [
        "ID",
        "AGE",
        "ZIP",
        "BORN",
        "PCT",
        "SEX",
        "G22",
        "G24",
        "INCOME",
        "TOWN",
        "HOUSE",
    ]
    file = pd.DataFrame({c: [i % 2 for i in range(60)] for c in columns}, dtype="int64")
    raw = file if stored == "numbers" else file.astype("str")
    reader = replace(modelled.model.reader, mapping=mapping)
    model = replace(modelled.model, reader=reader)
    example = synthetic_example(as_numbers(raw, mapping), seed=1)
    signature = signature_of(example, model)
    inputs = signature.inputs
    # an example that is not of its signature would end the run
    given = as_signed(example, signature)
    for spec in inputs:
        is_text = spec.type == DataType.string
        assert given[spec.name].map(lambda v: isinstance(v, str)).all() == is_text
    assert {spec.name for spec in inputs if spec.type == DataType.double} == {
        "AGE", "G22", "INCOME",
    }  # fmt: skip
    assert {spec.type for spec in inputs} == {DataType.double, DataType.string}
    assert inputs.input_names() == columns


def test_the_example_is_nobody(modelled) -> None:
    raw, example = modelled.raw, example_of(modelled)
    assert list(example) == list(raw)
    assert not set(example["voter_id"]) & set(raw["voter_id"])
    assert not set(example["household_id"]) & set(raw["household_id"])
    for name in example:
        if not pd.api.types.is_numeric_dtype(raw[name]):
            shared = raw[name].astype(str).value_counts()
            real = [v for v in example[name] if v in shared.index]
            assert all(shared[v] >= 20 for v in real), name


def test_the_example_holds_no_real_id_that_is_a_number() -> None:
    """A file may number its voters: one drawn among theirs would be one of them."""
    ids = np.arange(500_000, 502_000)
    raw = pd.DataFrame({"VOTER_ID": ids, "AGE": [40, 50] * 1000})
    example = synthetic_example(raw, seed=1)
    assert not set(example["VOTER_ID"]) & set(ids)
    assert example["VOTER_ID"].is_unique
    assert example["AGE"].between(40, 50).all()


def test_the_example_reads_columns_of_any_type() -> None:
    raw = pd.DataFrame(
        {
            "owner": [True, False] * 50,
            "score": [0.25, np.nan] * 50,
            "empty": [np.nan] * 100,
            "town": ["Ada"] * 60 + [f"Rare {i}" for i in range(40)],
            "registered": pd.to_datetime(["2020-01-01"] * 100),
        }
    )
    example = synthetic_example(raw, seed=1)
    assert list(example) == list(raw)
    assert set(example["town"]) == {"Ada"}
    assert example["score"].notna().all()


def version_of(modelled, folder: Path, artifacts: Path | None) -> Version:
    """Another version, registered and not promoted."""
    folder.mkdir()
    return register(modelled, folder, artifacts)


WHEN = {"by": "the analyst", "at": "2026-11-03T12:00:00Z", "why": "a wrong file"}


def test_rolling_back_goes_to_the_champions_before_one_by_one(
    modelled, tmp_path: Path
) -> None:
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    try:
        open_store(None, tmp_path / "mlflow")
        artifacts = tmp_path / "mlflow" / "artifacts"
        with pytest.raises(ValueError, match="expected a champion to roll back from"):
            roll_back("sample", to="", **WHEN)
        one, two, three, four = (
            version_of(modelled, tmp_path / f"v{i}", artifacts) for i in range(4)
        )
        promote(one)
        with pytest.raises(ValueError, match="expected a champion before version 1"):
            roll_back("sample", to="", **WHEN)
        # what was registered and never promoted is not gone back to
        promote(two)
        promote(four)
        back = roll_back("sample", to="", **WHEN)
        assert back.version == two.version
        assert champion_version("sample") == back
        told = json.loads(back.tags["rolled_back_from"])
        assert told == {"version": four.version, **WHEN}
        assert roll_back("sample", to="", **WHEN).version == one.version
        with pytest.raises(ValueError, match="expected a champion before version 1"):
            roll_back("sample", to="", **WHEN)
        # one that was never champion can be named, and there is a way back from it
        assert roll_back("sample", to=three.version, **WHEN).version == three.version
        assert roll_back("sample", to="", **WHEN).version == one.version
        with pytest.raises(ValueError, match=r"one of the versions 1, 2, 3, 4, got"):
            roll_back("sample", to="9", **WHEN)
        with pytest.raises(ValueError, match="is the champion already"):
            roll_back("sample", to=one.version, **WHEN)
        assert champion_version("sample").version == one.version
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def webhook_block() -> str:
    """The block of the operations page that sets the webhook up."""
    page = (ROOT / ".github" / "docs" / "8-operations.md").read_text()
    (block,) = re.findall(r"^```python\n(.*?create_webhook.*?)^```", page, re.M | re.S)
    return str(block)


def require_announced(version: Version, url: str) -> None:
    """As the operations page says: a champion's move is posted, signed, by MLflow."""
    taken: Queue[tuple[Any, bytes]] = Queue()

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.put(
                (self.headers, self.rfile.read(int(self.headers["Content-Length"])))
            )
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    block = webhook_block()
    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        Thread(target=receiver.serve_forever, daemon=True).start()
        hook = f"http://127.0.0.1:{receiver.server_port}/champion"
        for documented, here in (
            ("https://mlflow.example.org", url),
            ("https://hooks.example.org/champion", hook),
            ('os.environ["CHAMPION_HOOK_SECRET"]', '"a secret"'),
        ):
            assert documented in block
            block = block.replace(documented, here)
        names: dict[str, Any] = {}
        exec(block, names)
        promote(version)
        headers, body = taken.get(timeout=30)
        names["client"].delete_webhook(names["hook"].webhook_id)
        receiver.shutdown()
    told = json.loads(body)
    assert (told["entity"], told["action"]) == ("model_version_alias", "created")
    assert told["data"] == {
        "name": version.name, "alias": "champion", "version": version.version
    }  # fmt: skip
    signed = f"{headers['X-MLflow-Delivery-Id']}.{headers['X-MLflow-Timestamp']}."
    digest = hmac.new(b"a secret", signed.encode() + body, hashlib.sha256).digest()
    assert headers["X-MLflow-Signature"] == f"v1,{base64.b64encode(digest).decode()}"


def test_a_version_has_a_description_that_leads_to_its_card_and_report(
    store: Store,
) -> None:
    client, version = mlflow.MlflowClient(), store.version
    said = client.get_model_version(version.name, version.version).description
    experiment = client.get_run(version.run_id).info.experiment_id
    files = f"#/experiments/{experiment}/runs/{version.run_id}/artifacts"
    assert said.startswith(CARD.summary)
    assert f"[Report]({files}/report.html)" in said
    assert f"[model card]({files}/model_card.md)" in said
    assert model_card_of(version) == CARD.text
    assert "champion" in client.get_registered_model(version.name).description


def test_a_real_server_registers_and_serves_the_same_model(
    modelled, tmp_path: Path, mlflow_server: str
) -> None:
    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    raw, url = modelled.raw.head(50), mlflow_server
    try:
        assert open_store(url, tmp_path / "unused") == url
        version = register(modelled, tmp_path, None)
        assert champion_version("sample") is None
        promote(version)
        assert champion_version("sample") == version
        model = mlflow.pyfunc.load_model("models:/hustings-sample@champion")
        assert_as_offline(model.predict(raw), modelled, raw)
        again = CampaignModel.load(download(version, tmp_path / "download"))
        assert again.facts == modelled.model.facts
        require_announced(version, url)
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    assert not (tmp_path / "unused").exists()


@pytest.mark.slow
def test_two_campaigns_make_the_tables_of_their_store_at_the_same_moment(
    tmp_path: Path,
) -> None:
    code = """
import os, sys, time
from pathlib import Path
from hustings.training.registry.register import open_store, tracked_run
store, at = Path(sys.argv[1]), time.time() + 0.2
children = []
for name in ("one", "other"):
    if (child := os.fork()) == 0:
        time.sleep(max(at - time.time(), 0))
        open_store(None, store)
        with tracked_run(name, "r", store / "artifacts", {}):
            os._exit(0)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], env=environment(),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[0, 0]", done.stderr[-3000:]


def test_a_new_store_of_a_test_is_as_the_migrations_of_mlflow_leave_it(
    tmp_path: Path, mlflow_store_file: Path
) -> None:
    def tables(store: Path) -> list[tuple[str, str]]:
        with closing(sqlite3.connect(store)) as connection:
            found = connection.execute("SELECT name, sql FROM sqlite_master ORDER BY 1")
            return list(found)

    uri = open_store(None, tmp_path)
    mlflow.MlflowClient(uri).create_experiment("fresh")
    assert len(tables(tmp_path / "mlflow.db")) > 20
    assert tables(tmp_path / "mlflow.db") == tables(mlflow_store_file)


# --- from a wheel ---------------------------------------------------------------------

SOURCES = (".package", "features", "training", "serving", "experiments",
           "pyproject.toml", "README.md", "LICENSE")  # fmt: skip
FROM_WHEEL = """
import json, sys
wheel, uri, version = sys.argv[1:]
sys.path.insert(0, wheel)
import hustings
from hustings.features.tables import VOTERS
import mlflow
mlflow.set_tracking_uri(uri)
mlflow.set_registry_uri(uri)
model = mlflow.pyfunc.load_model(version)
import features
print(json.dumps({
    "hustings": hustings.__file__, "table": VOTERS.name, "features": features.OWN,
    "run": model.metadata.run_id,
}))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is built and installed, unpacked."""
    home = tmp_path_factory.mktemp("wheel")
    source = home / "source"
    source.mkdir()
    # built from a copy: setuptools leaves its own folders beside the sources
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps",
         "--no-build-isolation", "--no-index", "--wheel-dir", str(home), str(source)],
        check=True, capture_output=True, cwd=home,
    )  # fmt: skip
    (built,) = home.glob("hustings-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(home / "unpacked")
    return home / "unpacked"


def test_from_a_wheel_in_a_project_with_its_own_features_the_champion_loads(
    store: Store, wheel: Path, tmp_path: Path
) -> None:
    promote(store.version)
    (tmp_path / "features").mkdir()
    (tmp_path / "features" / "__init__.py").write_text('OWN = "the project\'s own"\n')
    champion = f"models:/{store.version.name}@champion"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", FROM_WHEEL, str(wheel), store.uri, champion],
        capture_output=True, text=True, cwd=tmp_path, env=environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert Path(loaded["hustings"]).is_relative_to(wheel)
    assert loaded["table"] == "voters"
    assert loaded["features"] == "the project's own"
    assert loaded["run"] == store.version.run_id
