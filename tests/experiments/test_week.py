"""The week's page: planted plans, spend and lift in, the same figures in words out."""

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.declaration import load_campaign
from hustings.experiments.report import WeekFacts, figure_png, write_week
from hustings.experiments.report.lift_page import (
    ALL,
    LiftFacts,
    LiftOfMessage,
    lift_body,
)
from hustings.experiments.report.week import (
    MessageOfWeek,
    week_figures,
    week_in_a_sentence,
    why_changed,
)
from hustings.experiments.results import LiftRow, LiftSummary, StatedInterval
from hustings.experiments.week_facts import week_facts
from hustings.features.tables import CONTROL, NO_CHANNEL
from tests.experiments.drafts import whole

LAST = pd.Timestamp("2026-09-14")
HIDDEN_VOTER = "VOTER-7731-X"
TITLE = "Work for everybody who lives in this county"
MESSAGES = ["jobs", "health", "schools", "taxes"]
PER_DAY = {"jobs": (30, 60), "health": (50, 50), "schools": (40, 0), "taxes": (0, 25)}
"""Contacts a day in the first week and in the second."""


def day_plan(on: pd.Timestamp, second: bool) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Jobs gets a better prediction in the second week, health a higher price."""
    rows = [
        {
            "voter_id": HIDDEN_VOTER if (m, i, on.day) == ("jobs", 0, 14)
            else f"{m}-{on.day}-{i}",
            "message_id": m, "channel": "mail", "send_on": on,
            "cost_usd": 0.66 if second and m == "health" else 0.60,
            "lift": 3.0 if second and m == "jobs" else 2.0,
            "propensity": 0.8, "role": "plan",
        }
        for m in MESSAGES for i in range(PER_DAY[m][second])
    ]  # fmt: skip
    plan = pd.DataFrame(rows)
    told = plan[["voter_id", "role", "message_id", "channel", "propensity"]]
    held = pd.DataFrame(
        {"voter_id": [f"held-{on.day}-{i}" for i in range(12)], "role": "holdout",
         "message_id": CONTROL, "channel": NO_CHANNEL, "propensity": 0.1}
    )  # fmt: skip
    assigned = pd.concat([told, held], ignore_index=True).assign(
        intended_message_id="jobs", intended_channel="mail"
    )
    return plan, assigned


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fourteen days of plans, a plan that was cancelled, and a measured lift."""
    folder = tmp_path_factory.mktemp("campaign")
    for k, on in enumerate(pd.date_range("2026-09-01", LAST)):
        plan, assigned = day_plan(on, second=k >= 7)
        write_plan(folder, f"{on:%Y%m%d}", plan, assigned)
    write_plan(folder, "cancelled", *day_plan(LAST, second=True))
    return folder


def lift_of_week() -> LiftSummary:
    """As `hustings lift` measures it: two messages, a small one, a segment."""
    return LiftSummary(
        rows=(
            measured_row("", 1_600, 2.3, (1.8, 0.4, 3.2)),
            measured_row("jobs", 500, 2.6, (0.9, -0.3, 2.1)),
            measured_row("tiny", 12, 9.0, (9.87, 9.0, 9.0)),
            replace(measured_row("jobs", 90, 2.6, (5.0, 4.0, 6.0)), segment="F"),
            replace(
                measured_row("jobs", 90, 2.6, (7.0, 6.0, 8.0)), estimand="population"
            ),
        ),
        n_decided=1_780, n_due=900, n_in=720, n_waiting=0, as_of="2026-09-12",
        trusted=False,
        sentences=("STOP: jobs does less than predicted", "All else is fine."),
        n_repeats_left_out=0, information=0.5, multiplicity="", sample_ratio={},
        attrition_p=1.0, gained=None, calibration=None, surrogate=None, repeats=None,
        reached=None,
    )  # fmt: skip


def measured_row(
    message: str, n: int, predicted: float, lift: tuple[float, float, float]
) -> LiftRow:
    """A row of lift.json as `hustings lift` writes it."""
    value, low, high = lift
    return LiftRow(
        "delivered", message, "", "", n, n, claimed=False, predicted=predicted,
        lift=value, se=1.0, once_low=low, once_high=high, always_low=low,
        always_high=high, claim_low=None, claim_high=None, shrunken=value,
        shrunken_low=low, shrunken_high=high,
    )  # fmt: skip


def write_plan(
    folder: Path, plan_id: str, plan: pd.DataFrame, assigned: pd.DataFrame
) -> None:
    path = folder / "plans" / plan_id
    path.mkdir(parents=True)
    plan.to_parquet(path / "plan.parquet", index=False)
    whole(plan, assigned)["assignments"].to_parquet(
        path / "assignments.parquet", index=False
    )
    limits = [
        {"name": "budget", "unit": "USD", "used": 81.0, "most": 81.0,
         "price_per_unit": 3.3, "one_more": 3.3},
        {"name": "letters a day", "unit": "contacts", "used": 135, "most": 200,
         "price_per_unit": 0.0, "one_more": 0.0, "channel": "mail"},
    ]  # fmt: skip
    (path / "terms.json").write_text(json.dumps({"terms": {"limits": limits}}))


def spend() -> pd.DataFrame:
    days = pd.date_range("2026-09-01", LAST)
    return pd.DataFrame(
        {"send_on": days, "channel": "mail", "committed_usd": 80.0,
         "spent_usd": [79.0] * 13 + [None]}
    )  # fmt: skip


def facts(home: Path, **given: Any) -> WeekFacts:
    campaign = load_campaign("sample")
    campaign.report.votes_needed = 100
    told: dict[str, Any] = {
        "last_on": LAST, "spend": spend(), "states": {"cancelled": "cancelled"},
        "paused": {"schools": "too much anger"}, "lift": lift_of_week(),
        "titles": {"jobs": TITLE},
    }  # fmt: skip
    found = week_facts(home, campaign, **(told | given))
    return replace(found, budget_usd=2_000.0)


def text_of(page: str) -> str:
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


@pytest.fixture(scope="module")
def page(home: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "week.html"
    write_week(path, facts(home))
    return path.read_text(encoding="utf-8")


def test_the_week_is_counted_and_compared_with_the_one_before(
    home: Path, page: str
) -> None:
    rows = {row.message_id: row for row in facts(home).messages}
    assert rows["jobs"].contacts == 7 * 60
    assert rows["jobs"].contacts_before == 7 * 30
    text = text_of(page)
    # 945 this week against 840: 12.5 % more
    assert "945 contacts, +12 % on the week before" in text
    assert "8 Sep 2026 to 14 Sep 2026" in text
    assert "168 the holdout" in text
    assert "80 % of 900 due; 880 not due yet" in text


def test_every_change_has_the_reason_that_was_planted(page: str) -> None:
    text = text_of(page)
    assert "new data: predicted effect up from +2.00 to +3.00 points" in text.lower()
    assert "price of a contact up from $0.60 to $0.66" in text.lower()
    assert "schools Paused. 0 280 −280" in text
    assert "taxes New this week. 175 0 +175" in text
    assert "schools: too much anger" in text
    assert "measured lift STOP: jobs does less than predicted (12 Sep 2026)" in text


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"full": ("phone",)}, "No capacity left: phone."),
        ({"contacts": 200}, "The whole plan grew."),
        ({"contacts": 100}, "Nothing of its own: other messages moved."),
        ({"contacts": 200, "lift": 1.5},
         "New data: predicted effect down from +2.00 to +1.50 points; the whole plan "
         "grew."),
        ({"contacts_before": 0}, "New this week."),
        ({"paused": True, "lift": 9.0}, "Paused."),
    ],
)  # fmt: skip
def test_reasons_follow_the_figures(changed: dict[str, Any], why: str) -> None:
    row = MessageOfWeek("m", 150, 100, 0.6, 0.6, 2.0, 2.0, paused=False, full=())
    assert why_changed(replace(row, **changed), 2_000, 1_000, 1.0) == why


def test_money_adds_up_and_what_nobody_recorded_is_not_counted(
    home: Path, page: str
) -> None:
    told = facts(home)
    assert sum(row.committed_usd for row in told.spend) == 14 * 80
    assert told.spend[-1].spent_usd is None
    text = text_of(page)
    assert "committed $560.00 $1,120" in text
    assert "spent $474.00 $1,027" in text
    assert "$973.00 of the budget is left" in text
    planned = 7 * 120 * 0.60 + 7 * (85 * 0.60 + 50 * 0.66)
    assert sum(row.planned_usd for row in told.spend) == pytest.approx(planned)


def test_measured_stands_beside_predicted_and_few_people_are_hidden(page: str) -> None:
    text = text_of(page)
    assert "+1.8 (0.4 to 3.2) 1,600" in text
    assert "all messages yes +2.3" in text
    # 0.9 was measured where 2.6 was predicted: 2.6 is outside of -0.3 to 2.1
    assert "jobs less came +2.6" in text
    assert "+0.9 (−0.3 to 2.1) 500" in text
    assert "tiny" not in page
    assert "9.87" not in page


def test_a_message_goes_by_its_title_in_table_and_chart(page: str) -> None:
    assert f"{TITLE} jobs less came +2.6" in text_of(page)
    # in lines, drawn for a desk and for a phone, and by its id nowhere
    drawn = re.findall(r"<text[^>]*>(?:<tspan.*?</tspan>)+</text>", page)
    labels = [" ".join(re.findall(r"<tspan[^>]*>(.*?)</tspan>", one)) for one in drawn]
    assert labels == [TITLE, TITLE]
    assert ">jobs</text>" not in page


@pytest.mark.parametrize(
    ("trusted", "low", "badge"),
    [
        (True, 0.4, "More than chance"),
        (True, -0.4, "May still be chance"),
        (False, 0.4, "Not to be read as lift"),
    ],
)
def test_the_lift_s_page_says_the_verdict_and_every_lift(
    trusted: bool, low: float, badge: str
) -> None:
    lift = lift_of_week()
    first = replace(lift.rows[0], always_low=low)
    lift = replace(lift, trusted=trusted, rows=(first, *lift.rows[1:]))
    outcome = load_campaign("sample").outcome
    body = lift_body(LiftFacts("Spring", outcome, {"jobs": TITLE}, lift))
    text = text_of(body)
    assert badge in text
    interval = f"+1.8 points ({low:.1f} to 3.2)".replace("-", "\N{MINUS SIGN}")
    assert f"The plans brought {interval} per voter chosen" in text
    assert all(sentence in text for sentence in lift.sentences)
    assert f"{TITLE} jobs , F delivered 90 90 +5.0 (4.0 to 6.0) no" in text
    assert "Lifts of fewer than 20 people are not shown: 1." in text
    assert "9.87" not in body


def test_votes_are_the_points_of_a_hundred_voters(home: Path, page: str) -> None:
    lifts = 7 * 120 * 2.0 + 7 * (60 * 3.0 + 75 * 2.0)
    told = facts(home).votes_gained
    assert told.predicted.value == pytest.approx(lifts / 100)
    assert told.measured.value == pytest.approx(1.8 * 1785 / 100)
    text = text_of(page)
    assert "by prediction +40" in text
    assert "as measured +32 (7 to 57) 68 (43 to 93)" in text


def test_limits_say_what_one_more_brings(page: str) -> None:
    text = text_of(page)
    assert "One limit binds: budget." in text
    assert "budget one more dollar: 3.3 points for one voter $81.00 $81.00" in text
    assert "letters a day nothing 135 200" in text


def test_no_voter_and_nothing_from_outside_is_on_the_page(page: str) -> None:
    assert HIDDEN_VOTER not in page
    assert "held-" not in page
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)


def test_texts_from_data_are_shown_and_not_run(home: Path, tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>"
    told = facts(home, paused={attack: attack})
    rows = [replace(row, message_id=attack) for row in told.lift]
    write_week(tmp_path / "w.html", replace(told, title=attack, lift=rows))
    page = (tmp_path / "w.html").read_text()
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 0


def test_what_is_not_there_is_named_and_the_page_stands(tmp_path: Path) -> None:
    plan, assigned = day_plan(LAST, second=True)
    write_plan(tmp_path, "only", plan, assigned)
    (tmp_path / "plans" / "only" / "assignments.parquet").unlink()
    told = facts(tmp_path, spend=None, states={}, paused={}, lift="no plan is locked")
    write_week(tmp_path / "w.html", replace(told, budget_usd=None))
    text = text_of((tmp_path / "w.html").read_text())
    assert "Measured lift: no plan is locked." in text
    assert "Money committed and spent: no plan's life is on record." in text
    assert "The holdout: a plan is without its assignments." in text
    assert "Left alone to compare unknown" in text
    assert "135 contacts in the first week; nothing is measured yet." in text
    assert "committed unknown unknown" in text


def test_a_campaign_without_any_plan_says_what_makes_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected plans in plans/ or a run"):
        facts(tmp_path)


def test_the_charts_hold_running_sums_and_are_drawn(home: Path) -> None:
    charts = week_figures(facts(home))
    assert set(charts) == {"week/spend", "week/lift"}
    data = charts["week/spend"].to_dict()["datasets"]
    rows = [row for rows in data.values() for row in rows if row.get("kind")]
    ends = {row["kind"]: row["usd"] for row in rows}
    assert ends["committed"] == 14 * 80
    assert all(len(figure_png(chart)) > 5_000 for chart in charts.values())


def test_a_lift_that_may_be_nothing_is_said_to_be(home: Path) -> None:
    told = facts(home)
    unsure = LiftOfMessage(ALL, None, StatedInterval(1.0, -0.5, 2.5), 900)
    assert week_in_a_sentence(told).endswith("per voter to be contacted.")
    sentence = week_in_a_sentence(replace(told, lift=[unsure]))
    assert sentence.endswith("per voter to be contacted, which could still be nothing.")


def test_the_command_writes_the_page_of_a_run_without_plans_by_day(
    story: Any, tmp_path: Path
) -> None:
    page = tmp_path / "week.html"
    done = CliRunner().invoke(
        app, ["week", "--campaign", str(story.folder),
              "--data", str(story.run.home.parent),
              "--out", str(page)],
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    text = text_of(page.read_text())
    assert "Nothing has gone out yet: the drafts stand for it." in text
    assert not re.search(r"\bV\d{6}", text)
