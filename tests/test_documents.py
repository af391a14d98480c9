"""What the documents say is so: figures, commands, links."""

import re
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
