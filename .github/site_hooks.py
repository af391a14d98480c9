"""What the site shows that lies elsewhere in the repository, or is said by the code.

MkDocs calls `on_files`, which adds the pages that are generated, and
`on_page_markdown`, which turns a link out of the folder of documents to the page where
the site has it.
"""

import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from typer.main import get_command

import hustings
from hustings.experiments.cli import app
from hustings.serving.rules import rule_set

ROOT = Path(__file__).resolve().parents[1]
ELSEWHERE = {
    "../../README.md": "index.md",
    "../CHANGELOG.md": "changes.md",
    "../CONTRIBUTING.md": "contributing.md",
}
"""Where the site has a file of the repository, by the link of a page."""
RULE_SETS = ("us_default", "eu_2024_900", "places_only", "research_replay")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of commands, API and rules, and those copied from elsewhere."""
    figures = sorted(
        page
        for folder in ("tests/speed", "tests/attack", "tests/speed/peers")
        for page in (ROOT / folder).glob("*.md")
    )
    decisions = sorted((ROOT / ".github" / "decisions").glob("*.md"))
    generated = {
        "commands.md": commands_page(),
        "api.md": api_page(),
        "rules.md": rules_page(),
        "changes.md": (ROOT / ".github" / "CHANGELOG.md").read_text(),
        "contributing.md": (ROOT / ".github" / "CONTRIBUTING.md").read_text(),
        "figures.md": list_of_pages(figures, decisions),
        **{page_of(path): path.read_text() for path in (*figures, *decisions)},
    }
    for name, text in generated.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(
    markdown: str, *, page: Page, config: MkDocsConfig, files: Files
) -> str:
    """Turn links that leave the folder of documents."""
    del config, files
    depth = page.file.src_uri.count("/")

    def turned(link: re.Match[str]) -> str:
        target, _, anchor = link[2].partition("#")
        place = ELSEWHERE.get(target) or page_of_link(target)
        if place is None:
            return link[0]
        return f"]({'../' * depth}{place}{'#' * bool(anchor)}{anchor}{link[3]}"

    return re.sub(r"(\]\()([^)\s]+)(\))", turned, markdown)


def page_of(path: Path) -> str:
    """Where the site has a page of figures or a decision."""
    relative = path.relative_to(ROOT)
    if relative.parts[0] == "tests":
        return f"figures/{'-'.join(relative.with_suffix('').parts[1:])}.md"
    return f"decisions/{path.name}"


def page_of_link(target: str) -> str | None:
    """Where the site has what a link names, None where it is a page of the folder."""
    inside = target.removeprefix("../../").removeprefix("../")
    for folder in ("", ".github/", ".github/docs/", "tests/speed/"):
        path = ROOT / folder / inside
        is_page = path.suffix == ".md" and path.is_file()
        if is_page and path.parent.name in ("speed", "attack", "peers", "decisions"):
            return page_of(path)
    docs = ".github/docs/"
    return target.partition(docs)[2] if target.startswith(docs) else None


def commands_page() -> str:
    """Every command with its options, as `--help` says it."""
    group = get_command(app)
    lines = [
        "# Commands",
        "",
        "Each has `--help`. Exit codes and folders: [8 Operations](8-operations.md).",
    ]
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        lines += _command_lines(f"hustings {name}", command)
    return "\n".join(lines)


def _command_lines(words: str, command: Any) -> list[str]:
    lines = ["", f"## {words}", "", command.help or "", ""]
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            lines += _command_lines(f"{words} {name}", inner)
        return lines
    shown = [p for p in command.params if p.name not in ("help", "debug")]
    if shown:
        lines += ["| | |", "|---|---|"]
    for parameter in shown:
        names = ", ".join(f"`{n}`" for n in parameter.opts)
        if parameter.param_type_name == "argument":
            names = f"`{(parameter.name or '').upper()}`"
        needed = " **Required.**" if parameter.required else ""
        text = (getattr(parameter, "help", "") or "").replace("|", r"\|")
        lines.append(f"| {names} | {text}{needed} |")
    return lines


def api_page() -> str:
    """The public names, each from its docstring."""
    lines = [
        "# Python API",
        "",
        "What `from hustings import ...` gives. How they work together: "
        "[9 Python](9-python.md).",
    ]
    for name in hustings.__all__:
        defined = getattr(hustings, name)
        lines += ["", f"::: {defined.__module__}.{defined.__qualname__}"]
    return "\n".join(lines)


def rules_page() -> str:
    """The rule sets, each rule with its source."""
    lines = [
        "# Rules of law",
        "",
        "A digest, and no legal advice. A rule binds where a campaign is declared, in "
        "the plan, in `/recommend`, and again when lists leave "
        "([proof and the law](5-proof-and-law.md)).",
    ]
    for name in RULE_SETS:
        rules = rule_set(name)
        lines += ["", f"## {name}", "", f"{rules.about}.", ""]
        lines += ["| code | channels | rule | source |", "|---|---|---|---|"]
        lines += [
            f"| `{rule.code}` | {', '.join(rule.channels) or 'all'} | {rule.digest} | "
            f"{rule.source} |"
            for rule in rules.rules
        ]
    return "\n".join(lines)


def list_of_pages(figures: list[Path], decisions: list[Path]) -> str:
    """A page that leads to every table of figures and every decision."""

    def line(path: Path) -> str:
        title = path.read_text().splitlines()[0].lstrip("# ")
        return f"- [{title}]({page_of(path)})"

    return "\n".join(
        [
            "# Figures and decisions",
            "",
            "Tables of speed, memory, coverage and comparison, each with the command "
            "that makes it:",
            "",
            *map(line, figures),
            "",
            "Decisions that others build on, each with what would change it:",
            "",
            *map(line, decisions),
        ]
    )
