"""`hustings schema`: every key of a campaign.toml, described, as editors read it."""

import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.declaration.schema import keys_of
from tests.checkout import ROOT

PAGE = ROOT / ".github" / "docs" / "10-campaign-toml.md"
CAMPAIGNS = sorted(EXPERIMENTS.glob("*/campaign.toml"))


def said(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["schema", *words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    written: dict[str, Any] = json.loads(said())
    return written


def as_json(value: Any) -> Any:
    """TOML's days as JSON has them."""
    if isinstance(value, dict):
        return {name: as_json(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [as_json(inner) for inner in value]
    return value.isoformat() if isinstance(value, date) else value


def test_no_key_is_without_a_description(schema: dict[str, Any]) -> None:
    keys = list(keys_of(schema))
    assert len(keys) > 200
    bare = [(title, name) for title, name, key in keys if not key.get("description")]
    assert not bare


@pytest.mark.parametrize("file", CAMPAIGNS, ids=lambda file: file.parent.name)
def test_the_shipped_campaigns_keep_the_schema(
    file: Path, schema: dict[str, Any]
) -> None:
    declared = as_json(tomllib.loads(file.read_text()))
    jsonschema.validate(declared, schema)
    declared["plan"]["holdout_shares"] = 0.1
    with pytest.raises(jsonschema.ValidationError, match="holdout_shares"):
        jsonschema.validate(declared, schema)


def test_the_reference_page_is_what_the_command_writes() -> None:
    assert PAGE.read_text() == said("--format", "markdown")


def test_the_page_has_the_sections_in_the_order_of_a_campaign(
    schema: dict[str, Any],
) -> None:
    headings = re.findall(r"^## `\[+([a-z_]+)[^`]*`$", PAGE.read_text(), re.M)
    keys = [key for key in schema["properties"] if key in headings]
    assert list(dict.fromkeys(headings)) == keys
    # a section is followed by those below it
    assert (
        "\n## `[plan.channels.<channel>]`"
        in PAGE.read_text().split("`[features]`\n")[0]
    )


def test_a_table_whose_names_have_a_pattern_says_what_it_is_of() -> None:
    assert "| `guardrails` | table of `[guardrails.<name>]` |" in PAGE.read_text()


def test_another_format_is_refused() -> None:
    assert "expected --format json or markdown" in said("--format", "xml", code=2)
