"""The report on a made-up evaluation: what it says, hides, escapes and draws."""

import copy
import re
import shutil
import subprocess
from datetime import date
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from hustings.experiments.declaration import (
    Campaign,
    OutcomeSection,
    load_campaign,
)
from hustings.experiments.report import figure_png, figures, write_report
from hustings.experiments.results import RunRecord, Source
from hustings.training.policy_value.verdict import answer

CHROMIUM = shutil.which("chromium")
HIDDEN_VOTER = "VOTER-7731-X"
SEGMENTS = [
    f"{age} · {sex} · {history}"
    for age in ("18-34", "35-49", "50-64", "65+")
    for sex in ("F", "M")
    for history in ("seldom", "sometimes", "votes often")
]
OUTCOME = {
    "name": "voted",
    "label": "voted in the primary",
    "kind": "binary",
    "measures": "turnout",
    "higher_is_better": True,
    "absent": "missing",
    "unit_per_point": 0.01,
}


def span(points: float, half: float = 0.5) -> dict[str, float]:
    """An interval in outcome units from one in points."""
    low, high = points - half, points + half
    return {"value": points / 100, "low": low / 100, "high": high / 100}


def policy(points: float, half: float, contacted: float) -> dict[str, Any]:
    return {
        "label": "as declared",
        "description": "spends the same money another way",
        "gain": span(points, half),
        "spend_per_voter_usd": 5.0 if contacted else 0.0,
        "contacted_share": contacted,
    }


def message_rows(n_messages: int) -> list[dict[str, Any]]:
    return [
        {
            "message_id": f"message_{i:03d}",
            "issue": ("roads", "schools", "health")[i % 3],
            "effect": span(5.1 - 7.0 * i / n_messages, 0.9),
            "shrunken": span(4.4 - 5.6 * i / n_messages, 0.6),
            "n_sent": 4000 - i,
            "discloses": ("none", "household", "others")[i % 3],
        }
        for i in range(n_messages)
    ]


def segment_cells(n_messages: int) -> list[dict[str, Any]]:
    return [
        {
            "message_id": f"message_{i:03d}",
            "segment": segment,
            "n": 900 - 30 * j,
            "effect": span(2.6 - 1.1 * i + 0.35 * ((i * 7 + j * 5) % 11 - 5), 1.2),
        }
        for i in range(min(n_messages, 15))
        for j, segment in enumerate(SEGMENTS)
    ]


def curve() -> list[dict[str, Any]]:
    tops = {"personalised": 5.3, "best_mix": 4.9, "one_covariate": 4.7}
    return [
        {
            "policy": name,
            "spend_per_voter_usd": float(spend),
            "gain": top / 100 * spend / (spend + 5),
            "low": (top - 1.1) / 100 * spend / (spend + 5),
            "high": (top + 1.1) / 100 * spend / (spend + 5),
        }
        for name, top in {**tops, "single_best": 3.9}.items()
        for spend in range(0, 46, 3)
    ]


def experiment(n_messages: int = 4, *, gain: float = 2.1) -> dict[str, Any]:
    pays = gain > 0.5
    return {
        "n_units": 90_000, "n_voters": 120_000, "n_observed": 118_500,
        "n_arms": n_messages + 1,
        "policies": {
            "nobody": policy(0.0, 0.0, 0.0),
            "single_best": policy(1.9, 0.4, 0.33),
            "best_mix": policy(2.5, 0.4, 0.41),
            "one_covariate": policy(2.6, 0.4, 0.4),
            "personalised": policy(2.5 + gain, 0.45, 0.44),
        },
        "differences": {
            "nobody": span(2.5 + gain), "single_best": span(gain + 0.6),
            "best_mix": span(gain), "one_covariate": span(gain - 0.1),
        },
        "best_baseline": "best_mix", "rival": "one_covariate",
        "best_untargeted": {"policy": "best_mix", "chosen_among": 2,
                            "over_nobody": span(2.5)},
        "gain_from_one_split": span(0.1), "gain_of_best_untargeted": span(2.5),
        "gate": {"power": None, "blocked_by": [], "carried_by_prior": False},
        "gain_from_personalising": span(gain - 0.1),
        "verdict": "personalise" if pays else "not_worth_personalising",
        "sentence": sentence(gain),
        "champion": "personalised" if pays else "best_mix",
        "messages": message_rows(n_messages),
        "channels": [
            {"channel": "mail", "multiplier": {"value": 1.0, "low": 0.8, "high": 1.2},
             "cost_usd_mean": 0.55},
            {"channel": "sms", "multiplier": {"value": 0.6, "low": 0.3, "high": 0.9},
             "cost_usd_mean": 0.04},
        ],
        "curve": curve(),
        "area": {"personalised": span(5.1), "best_mix": span(4.9),
                 "one_covariate": span(4.8), "single_best": span(4.2)},
        "calibration": {
            "slope": {"value": -0.28, "low": -0.71, "high": 0.17},
            "pooled_slope": {"value": 0.94, "low": 0.71, "high": 1.17},
            "groups": [
                {"message_id": "all", "predicted": p / 100, "n": 2400,
                 "realised": span(0.95 * p + 0.2 * (-1) ** k, 0.8)}
                for k, p in enumerate((-0.4, 0.8, 1.9, 2.8, 4.4))
            ],
        },
        "segments": segment_cells(n_messages),
        "checks": {
            "sample_ratio": {"p_value": 0.41, "ok": True},
            "attrition": {"p_value": 0.0004, "ok": False, "missing_share": 0.0125},
            "permuted_gain": span(0.05, 0.4),
            "overlap_min_propensity": 0.11,
        },
        "turnout_effect": "unknown",
    }  # fmt: skip


def sentence(gain: float) -> str:
    if gain > 0.5:
        return (
            "Send each voter the message that does most for the money: personalising "
            f"adds +{gain:.1f} points ({gain - 0.5:.1f} to {gain + 0.5:.1f}) over the "
            "best untargeted mix."
        )
    return (
        "Send the best mix to people drawn at random: personalising adds nothing that "
        f"could be shown, {gain:.1f} points ({gain - 0.5:.1f} to {gain + 0.5:.1f})."
    )


def evaluation_of(
    *, gain: float = 2.1, n_messages: int = 4, n_experiments: int = 1
) -> dict[str, Any]:
    experiments = {
        f"experiment_{i}": experiment(
            n_messages, gain=gain if i == 0 else 0.1 * i - 0.3
        )
        for i in range(n_experiments)
    }
    first = experiments["experiment_0"]
    return {
        "campaign": "made_up",
        "outcome": OUTCOME,
        "spend_per_voter_usd": 5.0,
        "n_eligible": 24_000,
        "experiments": experiments,
        "headline": {
            "sentence": first["sentence"],
            "verdict": first["verdict"],
            "n_personalise": int(gain > 0.5),
        },
    }


def campaign(title: str = "Does the letter bring people to the poll?") -> Campaign:
    shipped = load_campaign("sample")
    asked = {
        "title": title, "as_of": date(2026, 9, 1),
        "question": "Which of four letters, if any, is worth its money, and for whom?",
    }  # fmt: skip
    plan = {"budget_usd": 120_000.0, "holdout_share": 0.1, "explore_share": 0.05}
    return shipped.model_copy(
        update={
            "campaign": shipped.campaign.model_copy(update=asked),
            "outcome": OutcomeSection(**OUTCOME),
            "plan": shipped.plan.model_copy(update=plan),
        }
    )


def sources() -> list[Source]:
    return [
        Source(
            table, "A made-up file <2026>", "CC0", "tests", 24_100, 24_000, 100,
            "0123456789abcdef" * 4,
        )
        for table in ("voters", "deliveries", "responses")
    ]  # fmt: skip


def run(**planned: Any) -> RunRecord:
    days = pd.date_range("2026-09-03", periods=8)
    return RunRecord.from_json({
        "run_id": "20260901-1200-ab12",
        "git_commit": "deadbeef" * 5,
        "seed": 20121106,
        "versions": {"python": "3.11.7", "lightgbm": "4.7.0"},
        "timings_s": {"ingest": 2.31, "train": 31.0},
        "rows": {"voters": 24_000},
        "plan": {
            "bound": 1.0, "value": 1.0, "limits": [], "setup_usd": 0.0, "closed": [],
            "n_contacts": 9_717, "explore_share": 0.05, "roles": {},
            "spent_usd": 119_870.4,
            "budget_usd": 120_000.0,
            "shadow_price": 0.0031,
            "optimality_gap": 2e-5,
            "contacts_by_day": [
                {"send_on": f"{day:%Y-%m-%d}", "channel": channel, "n": 900 + 40 * i}
                for i, day in enumerate(days)
                for channel in ("mail", "sms")
            ],
            "planned": [
                {"message_id": f"message_{i:03d}", "channel": "mail", "role": role,
                 "n": n, "cost_usd": 0.55 * n, "lift_mean": 0.031 - 0.004 * i}
                for i, (role, n) in enumerate(
                    [("plan", 8200), ("plan", 900), ("explore", 610), ("explore", 7)]
                )
            ],
            "segments": [
                {"segment": segment, "n_planned": 600 - 24 * j, "n_voters": 1000}
                for j, segment in enumerate(SEGMENTS)
            ],
            "not_eligible": [
                {"reason": "asked not to be called", "n_voters": 312},
                {"reason": "no postal address", "n_voters": 4},
            ],
        } | planned,
    })  # fmt: skip


def planned_frame() -> pd.DataFrame:
    ids = [HIDDEN_VOTER, *(f"VOTER-{i}" for i in range(9_716))]
    return pd.DataFrame({"voter_id": ids, "role": "plan", "cost_usd": 0.55})


def assigned_frame() -> pd.DataFrame:
    roles = ["plan"] * 9_100 + ["explore"] * 617 + ["holdout"] * 2_400
    ids = [f"VOTER-{i}" for i in range(len(roles))]
    messages = ["jobs_paychecks"] * 9_600 + ["control"] * 2_517
    return pd.DataFrame({"voter_id": ids, "role": roles, "message_id": messages})


def quarantined_frame() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "table": ["voters"] * 3 + ["responses"],
            "row": [3, 9, 14, 2],
            "column": ["age", "age", "sex", "voter_id"],
            "value": ["131.0", "142.0", "Q", HIDDEN_VOTER],
            "reason": [
                "expected a value in [16, 120]",
                "expected a value in [16, 120]",
                "expected one of F, M, U",
                f"unknown voter {HIDDEN_VOTER!r}",
            ],
        }
    )


def messages_frame(n_messages: int = 4) -> pd.DataFrame:
    rows = message_rows(n_messages)
    text = "Who votes is a matter of public record. We will write to you again."
    return pd.DataFrame(
        {
            "message_id": [row["message_id"] for row in rows],
            "issue": [row["issue"] for row in rows],
            "text": text,
        }
    )


def written(
    tmp_path: Path,
    evaluation: dict[str, Any] | None = None,
    **changes: Any,
) -> str:
    path = tmp_path / "report.html"
    given: dict[str, Any] = {
        "campaign": campaign(),
        "sources": sources(),
        "evaluation": evaluation or evaluation_of(),
        "plan": planned_frame(),
        "assignments": assigned_frame(),
        "quarantine": quarantined_frame(),
        "messages": messages_frame(),
        "record": run(),
        "model_version": "made_up/3",
    }
    write_report(path, **(given | changes))
    return path.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    """What a person reads: scripts, style and tags taken away."""
    body = re.sub(r"<(script|style).*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_the_page_tells_which_messages_voters_differ_in(tmp_path: Path) -> None:
    evaluation = evaluation_of()
    told = {"value": 0.012, "low": 0.004, "high": 0.02}
    rows = [
        {"message_id": name, "slope": told, "autoc": told, "p_value": p, "found": found}
        for name, p, found in (("<b>one</b>", 0.0001, True), ("other", 0.4, False))
    ]
    result = evaluation["experiments"]["experiment_0"]
    result["heterogeneity"] = {"pooled": {}, "messages": rows}
    page = text_of(written(tmp_path, evaluation))
    assert "Do voters differ in what 2 messages do to them?" in page
    assert "+1.2 (0.4 to 2.0)" in page
    assert "p < 0.001" in page
    assert "not shown" in page
    assert "<b>one</b>" not in written(tmp_path, evaluation)


def test_the_page_says_the_answer_and_the_two_verdicts_read_differently(
    tmp_path: Path,
) -> None:
    pays = text_of(written(tmp_path, evaluation_of(gain=2.1)))
    nothing = text_of(written(tmp_path, evaluation_of(gain=-0.2)))
    assert sentence(2.1) in pays
    assert sentence(-0.2) in nothing
    assert "Personalising does not pay" in nothing
    # explorers who drew nothing are no contacts
    assert "617 voters, of whom 500 get a message drawn at random and 117" in pays
    assert "Personalising does not pay" not in pays
    assert "What to do: Send each voter the message" in pays
    assert "What to do: Send the best mix of messages" in nothing


def test_tile_and_sentence_say_a_loss_by_one_rule(tmp_path: Path) -> None:
    evaluation = evaluation_of(gain=-0.2)
    result = evaluation["experiments"]["experiment_0"]
    result["gate"]["attempt"] = 1
    for ends, verb, loses in (
        ((-3.0, -4.0, -2.0), "gives", True),
        # below zero by the interval of one difference, not of the closest of four
        ((-2.0, -3.95, -0.05), "gives", False),
        ((2.0, -1.0, 5.0), "adds", False),
    ):
        interval = dict(zip(("value", "low", "high"), ends, strict=True))
        result["gain_from_personalising"] = interval
        in_words = answer(result, unit_per_point=1.0, label="turnout")
        assert f"Personalising {verb}" in text_of(written(tmp_path, evaluation))
        assert loses or verb in in_words
        assert ("loses" in in_words) == loses


@pytest.mark.parametrize(
    ("declared", "affordable", "words"),
    [
        (0.0, 0.0, "Nobody explores, as explore_share is declared to be 0"),
        (0.05, 0.0, "but the limits of this plan leave nothing for it"),
        (0.05, 0.001, "a chance of 0.1 %, and nobody was"),
    ],
)
def test_why_nobody_explores_is_said_truly(
    tmp_path: Path, declared: float, affordable: float, words: str
) -> None:
    asked = campaign()
    section = asked.plan.model_copy(update={"explore_share": declared})
    assigned = assigned_frame()
    page = written(
        tmp_path,
        campaign=asked.model_copy(update={"plan": section}),
        assignments=assigned[assigned["role"] != "explore"],
        record=run(explore_share=affordable),
    )
    assert words in text_of(page)
    assert "The planned policy leaves nothing to draw" not in text_of(page)


def test_one_split_and_nobody_as_the_answer_read_as_such(tmp_path: Path) -> None:
    evaluation = evaluation_of(gain=0.0)
    result = evaluation["experiments"]["experiment_0"]
    result |= {
        "champion": "one_covariate",
        "verdict": "one_split_suffices",
        "gain_from_one_split": span(0.9, 0.3),
    }
    evaluation["headline"]["verdict"] = "one_split_suffices"
    split = text_of(written(tmp_path, evaluation))
    assert "One split suffices" in split
    assert "One split adds +0.9 points between 0.6 and 1.2" in split
    result["champion"] = "nobody"
    nobody = text_of(written(tmp_path, evaluation))
    assert "Nobody: gain 0 points Planned contacts" in nobody
    assert "What to do: Send nothing" in nobody


def test_the_page_loads_nothing_from_outside_and_stays_under_two_megabytes(
    tmp_path: Path,
) -> None:
    page = written(tmp_path)
    assert not re.search(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", page)
    assert "@import" not in page
    assert "connect-src" not in page
    assert "default-src 'none'" in page
    assert len(page.encode()) < 2_000_000


def test_a_script_in_any_text_of_the_data_is_shown_and_not_run(tmp_path: Path) -> None:
    attack = "<script>alert('x')</script>"
    evaluation = evaluation_of()
    result = evaluation["experiments"].pop("experiment_0")
    evaluation["experiments"][attack] = result
    result["messages"][0]["message_id"] = attack
    result["messages"][0]["issue"] = attack
    result["segments"][0] |= {"message_id": attack, "segment": attack}
    result["sentence"] = evaluation["headline"]["sentence"] = attack
    messages = messages_frame()
    messages.loc[0, ["message_id", "text"]] = attack
    page = written(tmp_path, evaluation, messages=messages, campaign=campaign(attack))
    assert "<script>alert" not in page
    assert page.count("<script") == page.count("</script>") == 0
    assert "&lt;script&gt;alert" in page


def test_groups_of_fewer_than_twenty_people_are_nowhere_on_the_page(
    tmp_path: Path,
) -> None:
    evaluation = evaluation_of()
    result = evaluation["experiments"]["experiment_0"]
    result["segments"] += [
        {"message_id": "message_000", "segment": "TINY-HEAT", "n": 19,
         "effect": span(9.0)},
        {"message_id": "message_000", "segment": "ENOUGH-HEAT", "n": 20,
         "effect": span(9.0)},
    ]  # fmt: skip
    tiny = copy.deepcopy(result["messages"][0]) | {"message_id": "TINY-MESSAGE"}
    result["messages"].append(tiny | {"n_sent": 19})
    result["calibration"]["groups"].append(
        {"message_id": "all", "predicted": 0.7654, "realised": span(9.0), "n": 19}
    )
    segments = [
        {"segment": "TINY-SHARE", "n_planned": 3, "n_voters": 19},
        {"segment": "ENOUGH-SHARE", "n_planned": 11, "n_voters": 77},
    ]
    page = written(tmp_path, evaluation, record=run(segments=segments))
    assert "ENOUGH-HEAT" in page
    assert "ENOUGH-SHARE" in page
    assert "TINY-" not in page
    assert "76.54" not in page
    assert "14 %" not in text_of(page)
    assert "no postal address fewer than 20" in text_of(page)


def test_no_voter_and_no_quarantined_value_is_on_the_page(tmp_path: Path) -> None:
    page = written(tmp_path)
    assert "VOTER-" not in page
    assert "unknown voter '…'" in text_of(page)
    assert "131" not in text_of(page)
    assert "voters age expected a value in [16, 120] 2" in text_of(page)


def test_effects_are_told_in_points_of_the_declared_unit(tmp_path: Path) -> None:
    evaluation = evaluation_of()
    assert "+2.0 points between 1.5 and 2.5" in text_of(written(tmp_path, evaluation))
    evaluation["outcome"] = OUTCOME | {"kind": "continuous", "unit_per_point": 0.001}
    assert "+20.0 points between 15.0 and 25.0" in text_of(
        written(tmp_path, evaluation)
    )


def test_several_experiments_get_one_row_each_and_their_own_details(
    tmp_path: Path,
) -> None:
    page = written(tmp_path, evaluation_of(n_experiments=3))
    assert page.count('<details class="experiment">') == 3
    table = page[page.index("One row for each experiment") :]
    rows = table[table.index("<tbody>") : table.index("</tbody>")]
    assert re.findall(r'<th scope="row">(\w+)</th>', rows) == [
        "experiment_0", "experiment_1", "experiment_2",
    ]  # fmt: skip


def test_hundreds_of_messages_are_all_in_the_table_and_few_in_the_chart() -> None:
    charts = figures(
        evaluation_of(n_messages=490), run().plan, messages_frame(n_messages=490)
    )
    drawn = {
        row["message"].split(" ")[0] for row in rows_of(charts["experiment_0/messages"])
    }
    columns = {row["message"] for row in rows_of(charts["experiment_0/segments"])}
    assert {"message_000", "message_489"} <= drawn
    assert len(drawn) == 20
    assert len(columns) == 12


def planned_of_many(n_messages: int) -> dict[str, Any]:
    """A plan that sends every message, with the reasons of each."""
    return {
        "planned": [
            {"message_id": f"message_{i:03d}", "channel": channel, "role": "plan",
             "n": 700 - i, "cost_usd": 0.55 * (700 - i), "lift_mean": 0.03}
            for i in range(n_messages) for channel in ("mail", "sms")
        ],
        "reasons": [
            {"message_id": f"message_{i:03d}", "channel": "mail", "n_voters": 700 - i,
             "why": [f"message_{i:03d} by mail is worth 3.00 points: this is sent.",
                     "another is worth 2.00 points."]}
            for i in range(n_messages)
        ],
    }  # fmt: skip


def open_part(page: str) -> str:
    """What a reader sees who opens nothing: all that is folded taken away."""
    while (less := re.sub(r"<details(?:(?!<details).)*?</details>", "", page,
                          flags=re.DOTALL)) != page:  # fmt: skip
        page = less
    return page


def test_of_490_messages_top_and_bottom_stand_open_and_the_rest_is_there(
    tmp_path: Path,
) -> None:
    messages = messages_frame(490)
    messages["title"] = [f"What we ask of you, part {i}" for i in range(490)]
    evaluation = evaluation_of(n_messages=490)
    evaluation["notes"] = [f"few answered message_{i:03d}" for i in range(300)]
    page = written(
        tmp_path, evaluation, messages=messages, record=run(**planned_of_many(490))
    )
    ids = set(messages["message_id"])
    folded_in = re.sub(r"<svg.*?</svg>", "", page, flags=re.DOTALL)
    assert ids <= set(re.findall(r"message_\d{3}", folded_in))
    seen = re.sub(r"<svg.*?</svg>", "", open_part(page), flags=re.DOTALL)
    n_open = {m: len(re.findall(m, seen)) for m in ids if m in seen}
    assert {"message_000", "message_489"} <= set(n_open)
    # the first ten and the last five of the plan, with the reasons of eight
    assert len(n_open) <= 20
    assert seen.count("<dt>") <= 8 + 4
    assert "482 more, of fewer voters each" in page
    assert seen.count("few answered") == 8
    # the chart of 20 messages calls them by their titles
    assert ">What we ask of you, part 489</text>" in page
    assert len(page) < 2_500_000


def test_every_figure_becomes_a_picture_without_a_browser() -> None:
    charts = figures(evaluation_of(n_experiments=2), run().plan, messages_frame())
    assert set(charts) == {"overview", "schedule"} | {
        f"experiment_{i}/{name}"
        for i in range(2)
        for name in ("policies", "messages", "segments", "curve", "calibration")
    }
    for chart in charts.values():
        assert figure_png(chart).startswith(b"\x89PNG")


def test_a_run_without_plan_segments_or_quarantine_still_reads(tmp_path: Path) -> None:
    evaluation = evaluation_of()
    evaluation["experiments"]["experiment_0"] |= {"segments": [], "curve": []}
    page = written(
        tmp_path,
        evaluation,
        plan=planned_frame().head(0),
        quarantine=quarantined_frame().head(0),
        record=RunRecord(run_id="r"),
    )
    assert "Nobody is planned." in text_of(page)
    assert "No row was." in text_of(page)
    assert page.count("Too few people to draw this.") == 2


def rows_of(chart: Any) -> list[dict[str, Any]]:
    """The rows that are written into a chart, whichever layer uses them."""
    datasets = chart.to_dict()["datasets"].values()
    return [row for rows in datasets for row in rows if "message" in row]


def browse(
    page: Path, profile: Path, *options: str
) -> subprocess.CompletedProcess[str]:
    assert CHROMIUM is not None
    return subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
            "--no-first-run", "--disable-background-networking", "--disable-sync",
            "--disable-component-update", f"--user-data-dir={profile}",
            "--enable-logging=stderr", "--virtual-time-budget=8000", *options,
            page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_draws_every_open_chart_and_reports_no_error(tmp_path: Path) -> None:
    page = written(tmp_path)
    told = browse(tmp_path / "report.html", tmp_path / "profile", "--dump-dom")
    said = [line for line in told.stderr.splitlines() if "CONSOLE" in line]
    assert said == []
    places = re.findall(r'<div class="chart[^"]*" data-figure="([^"]+)"', page)
    assert len(places) == 6
    # each for a desk and for a phone
    assert told.stdout.count("<svg") == 2 * len(places)
