"""The model card of a registered version: what it learned from, for what it is meant.

Everything in it speaks of tables or of groups of at least `SMALLEST_CELL` people.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from hustings.experiments.report.words import POLICIES, people_text
from hustings.experiments.results import Source
from hustings.experiments.stages.context import Run
from hustings.training.registry.register import ModelCard

INTENDED = (
    "To choose, for voters of the file's kind, which of the tested messages is sent to "
    "whom within the campaign's budget, limits and rules, and to say what that is "
    "expected to bring."
)
NOT_OF_PERSONS = ("messages", "designs", "costs")
"""Tables whose rows are no persons: their counts are shown, however small."""
LIMITS = (
    "A lift is an expectation with a 95 % interval over voters like this one, and no "
    "knowledge of a person.",
    "It holds for the electorate, time, channels and messages of the test; a message "
    "that was never sent is scored only with its wider interval, or not at all.",
    "It says nothing of what a message does in places that nobody was tested in, nor "
    "of prices, jobs, credit, housing or any other decision about a person.",
    "What was planned by it is measured against the holdout (`hustings lift`): where "
    "that says otherwise, the measurement is right.",
)


def model_card(
    run: Run, facts: Mapping[str, Any], policies: Mapping[str, str]
) -> ModelCard:
    """The card of the version that a run registers.

    Args:
        run: It has been ingested and judged.
        facts: Of the model, as it is saved.
        policies: Chosen policy by experiment.
    """
    campaign, evaluation = run.campaign, run.read_json("evaluation")
    ingested = run.read_json("ingest")
    sources = [
        Source.from_json({"table": name, **row}) for name, row in ingested.items()
    ]
    summary = "\n\n".join(
        [
            f"**{campaign.campaign.title}**: {facts['sentence']}",
            f"**Meant for.** {INTENDED}",
        ]
    )
    text = "\n\n".join(
        [
            f"# {campaign.campaign.title}",
            summary,
            _verdict(facts, evaluation, policies),
            _data(facts, sources, evaluation),
            "## Limits\n\n" + _items(LIMITS),
            _guardrails(run, facts),
        ]
    )
    return ModelCard(summary, f"{text}\n")


def _verdict(
    facts: Mapping[str, Any], evaluation: Mapping[str, Any], policies: Mapping[str, str]
) -> str:
    outcome = facts["outcome"]
    chosen = [
        f"{name}: {POLICIES.get(policy, policy)}, judged on "
        f"{people_text(evaluation['experiments'][name]['n_observed'])} answers"
        for name, policy in policies.items()
    ]
    better = "more is better" if outcome["higher_is_better"] else "less is better"
    return (
        f"## Verdict\n\n`{facts['verdict']}`. Outcome: {outcome['label']} ({better}). "
        f"Policy of each experiment:\n\n{_items(chosen)}"
    )


def _data(
    facts: Mapping[str, Any], sources: Iterable[Source], evaluation: Mapping[str, Any]
) -> str:
    rows = [
        f"| {one.table} | {_rows(one)} | {_cell(one.source)} "
        f"| {_cell(one.licence)} | {_cell(one.permitted_use)} |"
        for one in sources
    ]
    n_tested = sum(one["n_voters"] for one in evaluation["experiments"].values())
    head = "| table | rows | source | licence | permitted use |\n|---|---|---|---|---|"
    table = "\n".join([head, *rows])
    return (
        f"## Data\n\nLearned on {facts['trained_at']} from tests of "
        f"{people_text(n_tested)} voters; digest `{facts['data_hash']}`.\n\n{table}"
    )


def _rows(source: Source) -> str:
    n = source.accepted
    return f"{n:,}" if source.table in NOT_OF_PERSONS else people_text(n)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _guardrails(run: Run, facts: Mapping[str, Any]) -> str:
    has_any = run.has("guardrails.json")
    stored = run.read_json("guardrails")["guardrails"] if has_any else []
    guarded = [
        f"{one['name']}: a message is closed that is shown to harm {one['outcome']} "
        f"(direction {one['direction']}, margin {one['margin']:g})"
        for one in stored
    ]
    closed = [
        f"closed: {one['message_id']}{_where(one['where'])}: {one['reason']}"
        for one in facts["guardrails"]["closed"]
    ]
    lowers = [
        f"lowers turnout, sent to nobody: {name}" for name in facts["lowers_turnout"]
    ]
    lines = [f"Rules: `{run.campaign.campaign.rule_set}`", *guarded, *closed, *lowers]
    return f"## Guardrails\n\n{_items(lines)}"


def _where(bins: Mapping[str, str]) -> str:
    return "".join(f", {column} {label}" for column, label in bins.items())


def _items(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
