"""The site of documents is built without a broken link, and its tutorials run."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

import hustings
from hustings.experiments.cli import app
from tests.checkout import ROOT, environment
from tests.story import Story

DOCS = ROOT / ".github" / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole site: a link that leads nowhere ends the build."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [
            sys.executable, "-m", "mkdocs", "build", "-q", "--strict",
            "-f", str(ROOT / ".github" / "mkdocs.yml"), "-d", str(folder),
        ],
        env=environment(NO_MKDOCS_2_WARNING="1"), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    return folder


def test_every_public_name_command_and_table_of_figures_has_its_page(
    site: Path,
) -> None:
    api = (site / "api.html").read_text()
    for name in hustings.__all__:
        defined = getattr(hustings, name)
        assert f'id="{defined.__module__}.{defined.__qualname__}"' in api, name
    commands = (site / "commands.html").read_text()
    for words in ("run", "plans-approve", "reactions-review"):
        assert f'id="hustings-{words}"' in commands
    figures = (site / "figures.html").read_text()
    for page in (ROOT / "tests" / "speed").glob("*.md"):
        assert f"figures/speed-{page.stem}.html" in figures
    assert "47 U.S.C. 227" in (site / "rules.html").read_text()
    # nothing is fetched from elsewhere
    fetched = re.findall(r'<(?:script|link)[^>]+(?:src|href)="(https?:[^"]+)"', api)
    assert fetched == []


def blocks(page: Path) -> Iterator[tuple[str, str]]:
    """Every block that is code: its language and its text."""
    yield from re.findall(r"^```(sh|python)\n(.*?)^```", page.read_text(), re.M | re.S)


def follow(page: Path, *, finished: str = "", run_by: tuple[str, ...] = ()) -> str:
    """Do what a page says, in the present folder; what the commands printed.

    Args:
        page: Its commands and Python are executed in their order.
        finished: A command whose work is done already.
        run_by: Options of `run` that make it shorter.
    """
    said = ""
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, page.name, "exec"), {})
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if line.startswith("make ") or line == finished:
                continue
            assert words.pop(0) == "hustings"
            options = run_by if words[0] == "run" else ()
            done = CliRunner().invoke(app, [*words, *options])
            expected = 2 if "exit code 2" in line else 0
            assert done.exit_code == expected, f"{line}\n{done.output}"
            said += done.output
    return " ".join(said.split())


def play_in(story: Story, folder: Path, patch: pytest.MonkeyPatch) -> None:
    """The finished campaign of the story as its user would have it in a folder."""
    shutil.copytree(story.folder, folder / "spread")
    shutil.copytree(story.run.home, folder / ".data" / "spread")
    shutil.copytree(story.run.store, folder / ".mlflow")
    patch.chdir(folder)


def test_the_tutorial_of_the_sample_leads_to_a_measured_lift(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = DOCS / "tutorial-sample.md"
    page = tmp_path / shipped.name
    # the same words on the tests' own campaign, whose run is finished
    page.write_text(shipped.read_text().replace("sample", "spread"))
    play_in(story, tmp_path, monkeypatch)
    said = follow(page, finished="hustings run --campaign spread --voters 20000")
    assert "Plan day-2026-09-08: sent" in said
    assert "voters are decided (those held out among them)" in said
    assert "keys of persons and 0 tombstones hold" in said


def test_the_tutorial_of_an_own_file_goes_from_files_to_a_plan(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> None:
    monkeypatch.chdir(tmp_path)
    said = follow(
        DOCS / "tutorial-own-file.md", run_by=("--trials", "1", "--model", "linear")
    )
    assert "lacks its sponsor or its 'paid for by' line" in said
    assert "Plan: 1,9" in said
    assert "Personalis" in said


def test_the_figures_of_the_flyer_are_the_committed_ones() -> None:
    judged = json.loads(
        (ROOT / "experiments" / "persuasion_flyer" / "evaluation.json").read_text()
    )
    (result,) = judged["experiments"].values()
    page = (DOCS / "tutorial-flyer.md").read_text()
    rows = re.findall(r"^\| ([A-Z][^|]+) \| ([^|]+) \|$", page, re.M)
    by_label = {row["label"]: row["gain"] for row in result["policies"].values()}
    assert len(rows) == 3
    for label, figures in rows:
        value, low, high = (100 * by_label[label][k] for k in ("value", "low", "high"))
        assert figures == f"{value:+.2f} ({low:+.2f} to {high:+.2f})"
    assert result["sentence"] in " ".join(page.replace("\n> ", " ").split())
