"""What the documents say is so: figures, commands, links."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from hustings.experiments.cli import app
from tests.documents import BEGIN, END, ROOT, table

PAGES = sorted((ROOT / ".github" / "docs").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / ".github" / "CONTRIBUTING.md", *PAGES]
MOST_LINES = 130
OF_THE_SITE = {"api.md", "commands.md", "rules.md", "figures.md", "changes.md"}
"""Pages that are generated when the site is built (`tests/test_site.py`)."""


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MOST_LINES


def test_readme_s_results_are_the_committed_ones() -> None:
    text = (ROOT / "README.md").read_text()
    shown = text.split(BEGIN)[1].split(END)[0].strip()
    assert shown == table()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", document.read_text()):
        if not target.startswith("http") and target not in OF_THE_SITE:
            assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_exists(document: Path) -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    for line in re.findall(r"`?hustings ([a-z][^`\n]*)", document.read_text()):
        words = line.split("#")[0].split()
        known = commands.get(words[0])
        if known is None:
            continue  # a sentence that begins with the name
        if hasattr(known, "commands") and len(words) > 1:
            known = known.commands.get(words[1], known)
        options = {o for p in known.params for o in p.opts}
        for word in words:
            if word.startswith("--"):
                assert word.split("=")[0].rstrip(",.;:)") in options, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_target_of_make_exists(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    stages = {"ingest", "features", "train", "evaluate", "promote", "score", "plan"}
    for target in re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", document.read_text()):
        assert target in targets | stages | {"report"}, target


def test_a_command_in_a_document_is_recognised() -> None:
    names = get_command(app).commands  # type: ignore[attr-defined]
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    shown = set(re.findall(r"`hustings ([a-z][a-z-]*)", text))
    assert shown <= set(names), shown - set(names)


def test_every_test_that_a_document_names_is_there() -> None:
    """Rows of the threat model say what is done, and the test that holds it."""
    page = (ROOT / ".github" / "docs" / "8-operations.md").read_text()
    rows = page.split("| who | what |")[1].split("\n\n")[0].splitlines()[2:]
    for row in rows:
        assert "`tests/" in row.rpartition("|")[0].rpartition("|")[2], row
    named = [
        reference
        for document in DOCUMENTS
        for reference in re.findall(r"`(tests/\S+?)::(\w+)`", document.read_text())
    ]
    assert len(named) >= len(rows) > 10
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_the_timer_of_the_operations_page_runs_the_day(tmp_path: Path) -> None:
    """Its unit files are read as systemd reads them, its lines run with a stub."""
    page = (ROOT / ".github" / "docs" / "8-operations.md").read_text()
    blocks = re.findall(r"```(?:ini|cron)\n(.*?)```", page, re.S)
    service, backup_service, timer, cron = blocks
    for text, expected in (
        (service, {"Unit", "Service"}), (backup_service, {"Unit", "Service"}),
        (timer, {"Unit", "Timer", "Install"}),
    ):  # fmt: skip
        lines = [one for one in text.splitlines() if one and not one.startswith("#")]
        assert {one.strip("[]") for one in lines if one[0] == "["} == expected
        assert all("=" in one for one in lines if one[0] != "[")
    # the day waits for the backup, and does not fail with it
    assert {"Wants=hustings-backup.service", "After=hustings-backup.service"} <= set(
        service.splitlines()
    )
    commands = [
        # a percent sign and a dollar are written twice
        shlex.split(line.removeprefix("ExecStart="))[-1]
        .replace("%%", "%")
        .replace("$$", "$")
        for line in (*backup_service.splitlines(), *service.splitlines())
        if line.startswith("ExecStart=")
    ]
    by_cron = [
        line.split(None, 5)[-1].replace("cd /srv/hustings && ", "").replace("\\%", "%")
        for line in cron.strip().splitlines()
    ]
    stub, said = tmp_path / "hustings", tmp_path / "said"
    stub.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    stub.chmod(0o700)
    place = {"PATH": f"{tmp_path}:/usr/bin:/bin", "TZ": "UTC"}
    for line in (*commands, *by_cron):
        subprocess.run(["/bin/sh", "-c", line], env=place, check=True)
    backup, day, status, *of_cron = said.read_text().splitlines()
    assert re.fullmatch(r"day --campaign NAME --date \d{4}-\d\d-\d\d", day)
    assert backup == "backup /backups --campaign NAME"
    assert status == "status --campaign NAME"
    assert of_cron == [backup, day]
