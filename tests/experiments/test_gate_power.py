"""How many more voters until we would know: through the command."""

import json
from pathlib import Path
from typing import Any

import pytest

from hustings.experiments.cli import OK
from hustings.training.measured_lift.power import gate_power, times_larger
from tests.experiments.test_guardrails import drawn
from tests.experiments.test_page_truth import check_page
from tests.experiments.test_right_reason import QUICK, hustings, results_of

WORTHWHILE = 0.5


@pytest.fixture(scope="module")
def shut(
    tmp_path_factory: pytest.TempPathFactory,
    one_thread: None,  # noqa: ARG001 - for its effect
) -> Path:
    """A run of a campaign in which all voters are moved alike."""
    sent = drawn(2_000, 5, {"control": 0.4, "jobs": 0.3, "roads": 0.3})
    folder = sent.campaign.write(
        tmp_path_factory.mktemp("power") / "shut",
        outcome={"scale": [0.0, 130.0]}, champion={"worthwhile_gain": WORTHWHILE},
    )  # fmt: skip
    done = hustings(folder, "run", *QUICK)
    assert done.exit_code == OK, done.output
    return results_of(folder)


@pytest.fixture(scope="module")
def result(shut: Path) -> dict[str, Any]:
    evaluation = json.loads((shut / "evaluation.json").read_text())
    (only,) = evaluation["experiments"].values()
    return dict(only)


def test_a_shut_gate_says_what_it_could_have_seen(result: dict[str, Any]) -> None:
    assert result["verdict"] != "personalise"
    gate, gain = result["gate"], result["gain_from_personalising"]
    power, worthwhile = gate["power"], gate["power"]["at_worthwhile"]
    assert power["n_tested"] == 2_000
    assert worthwhile["gain"] == WORTHWHILE
    se = (gain["high"] - gain["low"]) / (2 * 1.959964)
    assert power["standard_error"] == pytest.approx(se, rel=1e-4)
    # rivals that the baseline is ahead of are beaten by more, with errors of their own
    assert worthwhile["power"] <= gate_power(WORTHWHILE, se, gate["alpha"]) + 1e-6
    n_least = 2_000 * times_larger(WORTHWHILE, se, power["next_alpha"])
    assert worthwhile["n_voters"] >= n_least - 1
    assert power["next_alpha"] == pytest.approx(gate["alpha"] / 4)
    chances = [point["power"] for point in power["curve"]]
    assert chances == sorted(chances)
    assert chances[0] == pytest.approx(gate["alpha"], rel=0.01)


def test_the_sentence_and_the_report_say_how_many_more_voters(
    shut: Path, result: dict[str, Any]
) -> None:
    more = result["gate"]["power"]["at_worthwhile"]["n_voters"] - 2_000
    page = (shut / "report.html").read_text()
    assert "How many more voters until we would know" in page
    if more > 0:
        assert f"with {more:,} more voters of 80 %" in result["sentence"]
        assert f"{more:,}" in page
    assert "a gain worth having (+0.50 points)" in result["sentence"]


def test_the_page_of_a_shut_gate_contradicts_neither_itself_nor_the_plan(
    shut: Path,
) -> None:
    check_page(shut)


def test_groups_are_compared_with_all_others_alike_and_the_choice_is_allowed_for(
    shut: Path, result: dict[str, Any]
) -> None:
    rows = result["balanced_groups"]
    assert {row["column"] for row in rows} == {"age", "sex"}
    assert {row["message_id"] for row in rows} == {"jobs", "roads"}
    for row in rows:
        assert row["low"] < row["difference"]["low"] <= row["difference"]["high"]
        assert row["high"] > row["difference"]["high"]
        # everybody is moved alike
        assert row["low"] < 0 < row["high"]
    chosen, gain = result["best_untargeted"], result["gain_of_best_untargeted"]
    assert chosen["chosen_among"] == 2
    corrected = chosen["over_nobody"]
    assert corrected["value"] == gain["value"]
    # as the gate asks: 2.24 standard errors
    assert corrected["value"] - corrected["low"] == pytest.approx(
        (gain["value"] - gain["low"]) * 2.2414 / 1.96, rel=1e-3
    )
    page = (shut / "report.html").read_text()
    assert "Does a group differ from the others, all else equal?" in page
    assert "its range allows for the best of 2 having been chosen" in page
