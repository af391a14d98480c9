"""One truth on the page of a run: headline, tiles, tables, charts, plan, endpoint."""

import json
import re
import subprocess
from html import escape, unescape
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.declaration import EXPERIMENTS
from hustings.experiments.report.words import (
    POLICIES,
    as_span,
    interval_text,
    message_labels,
    people_text,
    usd_text,
)
from hustings.features.tables import SMALLEST_CELL, in_twenties
from hustings.training.policy_value.held_out_halves import BASELINES
from hustings.training.registry.register import open_store
from tests.browser import CHROMIUM

Row = dict[str, str]


def text_of(markup: str) -> str:
    """What a person reads: styles, charts and tags taken away."""
    body = re.sub(r"<(style|svg).*?</\1>", " ", markup, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def table(page: str, caption: str) -> list[Row]:
    """Rows of the tables whose captions begin so, cells by their columns."""
    rows: list[Row] = []
    for one in re.findall(r"<table.*?</table>", page, re.DOTALL):
        if text_of(one.partition("</caption>")[0]).startswith(caption):
            head, _, body = one.partition("<tbody>")
            names = [text_of(cell) for cell in re.findall(r"<th .*?</th>", head)]
            rows += [
                dict(zip(names, map(text_of, cells), strict=True))
                for line in re.findall(r"<tr.*?</tr>", body, re.DOTALL)
                if (cells := re.findall(r"<t[hd].*?</t[hd]>", line, re.DOTALL))
            ]
    assert rows, caption
    return rows


def section(page: str, anchor: str) -> str:
    (found,) = re.findall(
        rf'<section id="{anchor}".*?</section>', page, flags=re.DOTALL
    )
    return str(found)


def check_page(folder: Path) -> None:
    """Fail where the page of a run of one experiment contradicts itself or the run.

    Args:
        folder: Of the finished run, its home the folder above.
    """
    page = (folder / "report.html").read_text()
    evaluation = json.loads((folder / "evaluation.json").read_text())
    ((slug, result),) = evaluation["experiments"].items()
    planned = json.loads((folder / "run.json").read_text())["plan"]
    unit = evaluation["outcome"]["unit_per_point"]
    _the_policy(page, result, planned, folder)
    _the_gain(page, evaluation, result, unit)
    _the_sums(page, planned, pd.read_parquet(folder / "plan.parquet"))
    _the_slopes(section(page, f"{slug}-calibration"), result["calibration"])
    _the_money(text_of(section(page, "plan")), planned)


def _the_policy(page: str, result: Any, planned: Any, folder: Path) -> None:
    """One policy is recommended, marked in table and chart, planned and served."""
    champion = result["champion"]
    label = POLICIES[champion]
    policies = table(page, "Policies at the same budget")
    names = [row["Policy"] for row in policies if "Chosen" in row["Policy"]]
    assert [name.split(" Chosen ")[0] for name in names] == [label]
    # drawn for a desk and for a phone
    assert page.count(f">{label} (chosen)</text>") == 2
    assert f"{label}: gain" in text_of(section(page, "answer"))
    assert [one["policy"] for one in planned["judged"]] == [champion]
    for bundle in (folder / "plan.json", folder.parent / "serving" / "plan.json"):
        (audience,) = json.loads(bundle.read_text())["audiences"].values()
        assert audience["policy"]["name"] == champion
    gain = {n: p["gain"]["value"] for n, p in result["policies"].items()}
    ahead = [n for n in gain if gain[n] > gain[champion]]
    answer = text_of(section(page, "answer"))
    assert ("and not chosen:" in answer) == bool(ahead)
    assert all(f"“{POLICIES[name]}”" in answer for name in ahead)


def _the_gain(page: str, evaluation: Any, result: Any, unit: float) -> None:
    """What personalising adds is the smallest difference that the gate tests."""
    tested = {n: d for n, d in result["differences"].items() if n in BASELINES}
    rival = min(tested, key=lambda name: tested[name]["value"])
    assert result["rival"] == rival
    assert result["gain_from_personalising"] == tested[rival]
    gain = as_span(tested[rival], unit)
    answer = text_of(section(page, "answer"))
    assert evaluation["headline"]["sentence"] == result["sentence"]
    assert result["sentence"] in answer
    assert interval_text(gain) in result["sentence"]
    estimate = interval_text(gain).partition(" (")[0]
    assert re.search(
        rf"Personalising (adds|gives) {re.escape(estimate)} between", answer
    )
    (row,) = [
        row
        for row in table(page, "Policies at the same budget")
        if row["Policy"].startswith(POLICIES[rival])
    ]
    assert row["Personalised is ahead by"] == interval_text(gain, "")
    pays = result["verdict"] == "personalise"
    assert ("adds" in result["sentence"]) == (gain.value >= 0)
    assert not pays or gain.low > 0


def _the_sums(page: str, planned: Any, plan: pd.DataFrame) -> None:
    """Contacts and money by channel, message and county are the plan's."""
    tiles = text_of(section(page, "answer"))
    assert f"Planned contacts {people_text(len(plan))} " in tiles
    assert f"Planned spend {usd_text(planned['spent_usd'])} " in tiles
    assert planned["n_contacts"] == len(plan)
    if plan.empty:
        return
    *by_channel, total = table(page, "Contacts by channel")
    assert total["Voters"] == people_text(len(plan))
    assert total["Cost"] == usd_text(plan["cost_usd"].sum())
    assert {r["Channel"]: r["Voters"] for r in by_channel} == {
        channel: shown_sum(of, plan)[0] for channel, of in plan.groupby("channel")
    }
    worth = plan[plan["role"] == "plan"]
    rows = [
        row for row in table(page, "Planned contacts")
        if "Why" not in row and "drawn at random" not in row["Message"]
    ]  # fmt: skip
    assert len(rows) == worth["message_id"].nunique()
    for row in rows:
        of = worth[worth["message_id"] == row["Message"].split()[-1]]
        assert (row["Voters"], row["Cost"]) == shown_sum(of, plan)


def shown_sum(contacts: pd.DataFrame, plan: pd.DataFrame) -> tuple[str, str]:
    """Count and money of a sum; in whole twenties where an arm of the plan is small."""
    n, usd = len(contacts), contacts["cost_usd"].sum()
    by_arm = plan.groupby(["message_id", "channel", "role"]).size()
    if (by_arm < SMALLEST_CELL).any():
        n, usd = in_twenties(n), usd * in_twenties(n) / n
    return (people_text(n), usd_text(usd)) if n else ("fewer than 20", "\N{EN DASH}")


def _the_slopes(shown: str, calibration: Any) -> None:
    """Beside the chart stands the slope of what it draws; the other is named."""
    words = text_of(shown)
    pooled = as_span(calibration["pooled_slope"])
    within = as_span(calibration["slope"])
    assert f"is drawn: {interval_text(pooled, '').lstrip('+')}" in words
    assert f"is not drawn: {interval_text(within, '').lstrip('+')}" in words
    assert abs(drawn_slope(calibration) - pooled.value) < (pooled.high - pooled.low) / 4


def drawn_slope(calibration: Any) -> float:
    """Slope of the line through the groups that the chart draws."""
    groups = calibration["groups"]
    return float(
        np.polyfit(
            [g["predicted"] for g in groups],
            [g["realised"]["value"] for g in groups],
            1,
        )[0]
    )


def test_the_groups_of_a_chart_rise_by_the_pooled_slope_not_by_that_within() -> None:
    """Where the two differ, as in the four mailers."""
    path = EXPERIMENTS / "2006_mailers" / "evaluation.json"
    (result,) = json.loads(path.read_text())["experiments"].values()
    calibration, drawn = result["calibration"], drawn_slope(result["calibration"])
    pooled, within = (calibration[k]["value"] for k in ("pooled_slope", "slope"))
    assert abs(pooled - within) > 0.1
    assert abs(drawn - pooled) < 0.02


def _the_money(words: str, planned: Any) -> None:
    """Where money is left, the page says so and does not say that it is worthless."""
    if not planned["n_contacts"]:
        assert "the planned policy sends nothing" in words
        assert "would change nothing" not in words
    elif planned["spent_usd"] < 0.97 * planned["budget_usd"]:
        assert "is left" in words


def test_the_page_of_a_run_contradicts_neither_itself_nor_the_plan(story: Any) -> None:
    check_page(story.run.folder)


def test_counties_sum_up_to_the_plan(story: Any) -> None:
    plan, page = story.run.read("plan"), (story.run.folder / "report.html").read_text()
    county = story.run.table("voters").set_index("voter_id")["county_fips"]
    contacts = plan["voter_id"].map(county).value_counts()
    shown = {
        r["County"]: r["Contacts planned"] for r in table(page, "Counties by planned")
    }
    large = {code: n for code, n in contacts.items() if n >= SMALLEST_CELL}
    assert large
    for code, n in large.items():
        assert shown[str(code)] == people_text(in_twenties(n))


def test_metrics_are_the_outcome_units_of_the_points_on_the_page(story: Any) -> None:
    open_store(None, story.run.store)
    run_id = json.loads((story.run.folder / "run.json").read_text())["mlflow_run_id"]
    metrics = mlflow.MlflowClient().get_run(run_id).data.metrics
    page = (story.run.folder / "report.html").read_text()
    unit = story.run.campaign.outcome.as_valued().unit_per_point
    ends, named = ("", "_low", "_high"), {label: n for n, label in POLICIES.items()}

    def logged(name: str) -> str:
        value, low, high = (metrics[f"{name}{end}"] for end in ends)
        interval = {"value": value, "low": low, "high": high}
        return interval_text(as_span(interval, unit), "")

    for row in table(page, "Policies at the same budget"):
        label = max(filter(row["Policy"].startswith, named), key=len)
        name = named[label]
        if name != "nobody":
            assert row["Gain, points"] == logged(f"gain__{name}")
        if name != "personalised":
            assert row["Personalised is ahead by"] == logged(f"difference__{name}")
    slope = {"value": metrics["calibration_pooled_slope"], **{
        end: metrics[f"calibration_pooled_slope_{end}"] for end in ("low", "high")
    }}  # fmt: skip
    shown = interval_text(as_span(slope), "").lstrip("+")
    assert f"is drawn: {shown}" in text_of(page)


def test_the_model_card_says_what_the_run_judged_and_names_no_voter(
    story: Any,
) -> None:
    where = ["--campaign", str(story.folder), "--store", str(story.run.store)]
    done = CliRunner().invoke(app, ["runs", "card", *where])
    assert done.exit_code == 0, done.output
    card, run = done.output, story.run
    evaluation = run.read_json("evaluation")
    assert evaluation["headline"]["sentence"] in card
    for title in ("Verdict", "Data", "Limits", "Guardrails"):
        assert f"\n## {title}\n" in card
    assert "**Meant for.**" in card
    for name, source in run.read_json("ingest").items():
        assert f"| {name} | {source['accepted']:,} | {source['source']} |" in card
    for guardrail in run.read_json("guardrails")["guardrails"]:
        assert f"- {guardrail['name']}: a message is closed that is shown to" in card
    ((experiment, result),) = evaluation["experiments"].items()
    assert f"- {experiment}: {POLICIES[result['champion']]}, judged on" in card
    assert not set(run.table("voters")["voter_id"]) & set(re.findall(r"\w+", card))
    # an earlier version has none; a number that is none is refused
    done = CliRunner().invoke(app, ["runs", "card", *where, "--version", "9"])
    assert done.exit_code == 3
    assert "expected a registered version, 1, got '9'" in " ".join(done.output.split())


def test_titles_go_from_the_table_to_the_page(story: Any) -> None:
    messages = story.run.table("messages")
    page = (story.run.folder / "report.html").read_text()
    sent = set(story.run.read("plan").query("role == 'plan'")["message_id"])
    rows = {
        row["Message"] for row in table(page, "Planned contacts") if "Why" not in row
    }
    for message, title in zip(messages["message_id"], messages["title"], strict=True):
        if message in sent:
            assert f"{title} {message}" in rows
    # in charts a title of several words stands in lines, without the id
    for title in messages["title"]:
        (label,) = message_labels(["m"], {"m": title}).values()
        spans = "".join(f"<tspan[^>]*>{re.escape(escape(line))}</tspan>"
                        for line in label.split("\n"))  # fmt: skip
        assert re.search(
            rf"<text[^>]*>{spans}</text>|>{re.escape(escape(label))}</text>", page
        )
    assert not any(f">{message}</text>" in page for message in messages["message_id"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_the_page_prints_on_at_most_six_sheets(story: Any, tmp_path: Path) -> None:
    printed, page = tmp_path / "report.pdf", story.run.folder / "report.html"
    subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu",
         f"--user-data-dir={tmp_path / 'profile'}", f"--print-to-pdf={printed}",
         page.as_uri()],
        capture_output=True, check=True, timeout=120,
    )  # fmt: skip
    assert 1 < len(re.findall(rb"/Type /Page\b", printed.read_bytes())) <= 6


@pytest.mark.parametrize("tag", ["<script", "<img", "<link", 'http-equiv="refresh"'])
def test_the_page_runs_and_loads_nothing(story: Any, tag: str) -> None:
    assert tag not in (story.run.folder / "report.html").read_text()
