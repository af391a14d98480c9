"""A drafted campaign as the text of its campaign.toml.

Every empty text and every comment with a ? waits for a person. No value of a person
stands in it: codes that several share are shown, and counts.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from hustings.features.draft.drafted import VOTERS_TABLE, CampaignDraft
from hustings.features.draft.heads import FileHead
from hustings.features.draft.other_tables import MappedColumn
from hustings.features.draft.voters import Guess, inline, text
from hustings.features.tables import CONTROL, NO_CHANNEL, REQUIRED_TABLES

_OF_THE_CAMPAIGN = (
    'source = "the campaign itself" # is it?',
    'licence = "the campaign\'s own" # is it?',
    'permitted_use = "the campaign\'s own work" # what it may be used for',
)
_ONE_DAY = pd.Timedelta(days=1)
OTHER_ORDER = (
    "messages", "designs", "deliveries", "responses", "costs", "permissions",
    "do_not_contact", "addresses", "merges",
)  # fmt: skip


def campaign_toml(draft: CampaignDraft, folder: Path | None) -> str:
    """The text of a campaign.toml that lies in a folder.

    Args:
        draft: What the files seem to be.
        folder: Paths of files inside it are written relative to it; None where it is
            not known yet.
    """
    lines = [
        *_head(draft, folder.resolve().name if folder is not None else ""),
        *_features(draft),
        *_voters(draft, folder), *_other_tables(draft, folder), *_unknown(draft),
    ]  # fmt: skip
    return "\n".join(lines)


def open_questions(drafted: str) -> int:
    """How many places of a drafted text wait for a person."""
    return sum(
        bool(re.search(r'= ""(?:,| |$)', line) or re.search(r"^\s*#.*\?", line))
        for line in drafted.splitlines()
    )


def _head(draft: CampaignDraft, folder_name: str) -> Iterator[str]:
    outcome = draft.outcome
    files = ", ".join(f"{h.path.name} ({name})" for name, h in draft.heads.items())
    plain = re.sub(r"[^A-Za-z0-9_.-]+", "_", folder_name).strip("_.-")
    yield f"# A draft from the first rows of {files}."
    yield '# Every guess is to be checked; every "" and every line with a ? waits for a'
    yield "# person, who knows what no file says."
    yield ""
    yield "[campaign]"
    yield f"name = {text(plain or 'new_campaign')}"
    yield 'title = ""'
    yield 'question = ""'
    yield 'rule_set = "us_default" # or eu_2024_900, places_only, research_replay'
    if outcome.last_seen is not None:
        day = (outcome.last_seen.normalize() + _ONE_DAY).date()
        yield f"as_of = {day} # the day after the last response of the rows looked at"
    else:
        yield 'as_of = "" # what may be known: a date as 2026-09-01, without quotes'
    yield "seed = 1"
    yield ""
    yield "[outcome]"
    yield f"name = {text(outcome.name)} # as in the table responses"
    yield f"label = {text(outcome.name.replace('_', ' '))}"
    yield f"kind = {text(outcome.kind)} # binary or continuous"
    yield f"measures = {text(outcome.measures)} # support, turnout or other"
    yield "higher_is_better = true"
    yield 'absent = "missing" # or zero: what a delivery without a response means'
    unit = outcome.unit_per_point or '""'
    yield f"unit_per_point = {unit} # 0.01 of a yes or no, 1.0 of a 0-100 scale"
    yield ""
    yield "[plan]"
    yield 'budget_usd = ""'
    yield 'start_on = "" # a date, without quotes'
    yield "days = 10"
    yield "holdout_share = 0.1"
    yield "explore_share = 0.05"
    yield ""


def _features(draft: CampaignDraft) -> Iterator[str]:
    special = draft.voters.special
    yield "[features]"
    yield 'columns = ["*"] # all but ids, excluded columns and special categories'
    yield "# They look like special categories of personal data: no features, unless a"
    yield "# legal basis is stated. Whether all are listed, only a person can say."
    yield "special_categories = ["
    yield from (f"    {text(c)}, # {reason}" for c, reason in special.items())
    yield "]"
    yield "# Those of them that are none, after a look: move them here."
    yield "not_special = []"
    yield 'legal_basis_special = ""'
    yield ""


def _written(head: FileHead, folder: Path | None) -> Iterator[str]:
    """Path of a file and how it is written."""
    path = head.path.resolve()
    if folder is not None and path.is_relative_to(folder.resolve()):
        path = path.relative_to(folder.resolve())
    yield f"path = {text(str(path))}"
    if head.written is None:
        return
    yield f"encoding = {text(head.written.encoding)}"
    yield f"delimiter = {text(head.written.delimiter)}"
    if not head.written.quoting:
        yield "quoting = false # a quotation mark is a mark like others in this file"
    if head.given_names:
        names = ", ".join(text(name) for name in head.columns)
        yield f"names = [{names}] # the file has no header: as the layout says"


def _voters(draft: CampaignDraft, folder: Path | None) -> Iterator[str]:
    head, voters = draft.heads[VOTERS_TABLE], draft.voters
    yield "[tables.voters]"
    if head.layout is not None:
        unverified = "" if head.layout.verified else " (unverified: no public layout)"
        yield f"# Layout {head.layout.name}: {head.layout.title}{unverified}"
    yield from _written(head, folder)
    made_by = head.layout.made_by if head.layout is not None else ""
    yield f"source = {text(made_by)} # who made the file"
    yield 'licence = ""'
    yield 'permitted_use = "" # what it may be used for'
    yield 'observed_on = "" # when its columns were observed: before the first delivery'
    yield ""
    yield "[tables.voters.columns]"
    yield from (_line(g.ours, g) for g in voters.columns)
    yield from (f"# {name} = ? {reason}" for name, reason in voters.missing.items())
    yield ""
    yield "[tables.voters.history]"
    yield from (_line(text(g.ours), g) for g in voters.history)
    if head.layout is not None and head.layout.history_left:
        yield f"# ? {head.layout.history_left}"
    yield ""
    never = {**voters.never, **voters.contact, **voters.afterwards}
    if never:
        yield "# Not mapped, and not to be:"
        yield from (f"#   {column}: {reason}" for column, reason in never.items())
        yield ""
    yield "# Could not be placed. Keep those that were observed of a voter before the"
    yield "# first delivery; an answer or a part of the design is never one of them."
    yield "[tables.voters.extra]"
    yield "names = ["
    yield from (f"#   {text(name)}," for name in voters.unplaced)
    yield "# Special categories: not needed unless they may be features."
    yield from (f"#   {text(name)}," for name in voters.special)
    yield "]"
    yield ""


def _line(ours: str, guess: Guess | MappedColumn) -> str:
    """One key; a comment where a person has to say something first."""
    if guess.question:
        return (
            f"# {ours} = {guess.entry} # {guess.reason}: {guess.question.rstrip('?')}?"
        )
    return f"{ours} = {guess.entry} # {guess.reason}"


def _other_tables(draft: CampaignDraft, folder: Path | None) -> Iterator[str]:
    for name in OTHER_ORDER:
        head = draft.heads.get(name)
        if head is None and name not in REQUIRED_TABLES:
            continue
        yield f"[tables.{name}]"
        if head is None:
            yield from _without_file(name, draft)
            yield from _OF_THE_CAMPAIGN
            yield ""
            continue
        yield from _written(head, folder)
        yield from _OF_THE_CAMPAIGN
        yield from (f"# ? {remark}" for remark in draft.remarks.get(name, ()))
        yield f"[tables.{name}.columns]"
        yield from (_line(c.ours, c) for c in draft.tables[name])
        yield ""


def _without_file(name: str, draft: CampaignDraft) -> Iterator[str]:
    """What stands where no file fills a table: questions, with what was seen."""
    rows = {
        "messages": _message_rows(draft),
        "designs": _design_rows(draft),
        "costs": _cost_rows(draft),
    }.get(name)
    if rows is None:
        yield 'path = ""'
        return
    yield "rows = ["
    yield from rows
    yield "]"


def _message_rows(draft: CampaignDraft) -> Iterable[str]:
    arms = dict.fromkeys(a.message_id for a in draft.arms if a.message_id != CONTROL)
    for arm in arms or [""]:
        row = {"message_id": arm, "title": "", "issue": "", "text": "", "sponsor": "",
               "disclaimer": "", "discloses": "none"}  # fmt: skip
        yield f"    {inline(row)},"


def _design_rows(draft: CampaignDraft) -> Iterable[str]:
    if not draft.arms:
        row = {"experiment_id": "test", "message_id": CONTROL, "channel": NO_CHANNEL,
               "probability": 0.5}  # fmt: skip
        yield f"    # ? {inline(row)},"
        return
    yield "    # Who drew the test knows the chance of an arm; drafted is an equal one."
    for arm in draft.arms:
        row = {"experiment_id": arm.experiment_id, "message_id": arm.message_id,
               "channel": arm.channel, "probability": 1 / arm.n_arms}  # fmt: skip
        seen = f"{arm.n} of {arm.total} deliveries"
        yield f"    # {inline(row)}, # {seen}: was it drawn so?"


def _cost_rows(draft: CampaignDraft) -> Iterable[str]:
    channels = dict.fromkeys(a.channel for a in draft.arms if a.channel != NO_CHANNEL)
    for channel in channels or [""]:
        row = inline({"message_id": "*", "channel": channel, "cost_usd": 0.0})
        yield f"    # {row}, # the price of one contact?"


def _unknown(draft: CampaignDraft) -> Iterator[str]:
    if not draft.unknown:
        return
    yield "# Other files, which nothing reads:"
    yield from (f"#   {p.name}: {why}" for p, why in draft.unknown.items())
    yield ""
