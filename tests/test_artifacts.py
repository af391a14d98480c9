"""Every file of a run is listed, written and read; a run has no other files."""

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.experiments.artifacts import ARTIFACTS, ArtifactError
from hustings.experiments.run import STAGES

ROOT = Path(__file__).parents[1]
WRITES = {
    "write": "{}.parquet", "write_json": "{}.json", "written_in_blocks": "{}.parquet",
}  # fmt: skip
READS = {
    "read": "{}.parquet", "blocks": "{}.parquet", "optional": "{}.parquet",
    "table": "tables/{}.parquet", "optional_table": "tables/{}.parquet",
    "read_json": "{}.json",
}  # fmt: skip
BY_PATH = {
    "quarantined_voters.parquet": "experiments/privacy/personal_data.py",
    "dictionary.json": "experiments/handover/evidence.py",
    "plan.json": "experiments/stages/rollback.py",
    "tables/partner_scores.parquet": "experiments/stages",
    "figures/*.png": "experiments/stages/tracking.py",
    "report.html": "experiments/stages/page.py",
    "candidates/*": "experiments/stages/models.py",
    "model/*": "experiments/stages/models.py",
    "run.json": "experiments/stages/context.py",
    "serving/*": "experiments/stages/contacts.py",
    "unpublished.json": "experiments/stages/publication.py",
    "checksums.json": "features/checksums.py",
    "reachable.json": "experiments/cli/stages.py",
}
"""Files that are written or read under their path, and where."""


def text_of(node: ast.expr) -> str:
    """A name as it stands in the source, `*` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "*"
            for part in node.values  # noqa: PD011 - of a syntax tree
        )
    return "*"


@cache
def calls_in_the_source() -> list[tuple[str, ast.expr, str]]:
    """Methods of runs that are called, each with its first argument, and where."""
    return [
        (node.func.attr, node.args[0], str(path.relative_to(ROOT)))
        for path in sorted((ROOT / "experiments").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in {*WRITES, *READS}
        and ast.unparse(node.func.value).split(".")[-1].endswith("run")
    ]


def calls(methods: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Files that runs are asked for in the source, and where: `run.read("plan")`."""
    for method, name, where in calls_in_the_source():
        if method in methods:
            yield methods[method].format(text_of(name)), where


def named(file: str, found: set[str]) -> bool:
    return any(fnmatch(file, name) or fnmatch(name, file) for name in found)


def by_path(file: str) -> bool:
    """Whether a module names a file's path, as `BY_PATH` says."""
    place = ROOT / BY_PATH.get(file, "nowhere")
    paths = place.rglob("*.py") if place.is_dir() else [place]
    stem = file.partition("*")[0].strip("/") or file
    return any(p.is_file() and Path(stem).name in p.read_text() for p in paths)


def test_every_file_that_a_stage_asks_for_is_listed() -> None:
    for file, where in (*calls(WRITES), *calls(READS)):
        # a stage that writes what the campaign names writes a family
        assert any(fnmatch(n, file) or fnmatch(file, n) for n in ARTIFACTS), (
            f"{where}: {file} is not in experiments/artifacts.py"
        )


@pytest.mark.parametrize("file", ARTIFACTS)
def test_every_listed_file_is_written_and_read(file: str) -> None:
    artifact = ARTIFACTS[file]
    written = {name for name, _ in calls(WRITES)}
    read = {name for name, _ in calls(READS)}
    assert named(file, written) or by_path(file), f"{file}: nothing writes it"
    if artifact.for_people:
        assert not artifact.read_by
    else:
        assert named(file, read) or by_path(file), f"{file}: nothing reads it"
        assert artifact.read_by
    assert artifact.written_by
    assert set(artifact.written_by) <= {*STAGES, "day"}


def test_a_run_refuses_a_file_that_is_not_listed(story: Any) -> None:
    run = story.run
    for ask in (run.read, run.read_json, run.table, run.optional):
        with pytest.raises(ArtifactError, match=r"artifacts\.py lists"):
            ask("no_such_file")
    with pytest.raises(ArtifactError):
        run.write("no_such_file", pd.DataFrame())
    with pytest.raises(ArtifactError):
        run.write_json("no_such_file", {})


def test_a_run_through_every_stage_has_listed_files_and_keeps_their_contracts(
    story: Any,
) -> None:
    folder = story.run.folder
    files = [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()]
    unlisted = [f for f in files if not any(fnmatch(f, name) for name in ARTIFACTS)]
    assert unlisted == []
    for file in files:
        artifact = ARTIFACTS.get(file)
        if artifact is not None and artifact.schema is not None:
            artifact.schema.validate(pd.read_parquet(folder / file))
