"""Declared columns of the tables: features, derived columns, experiments."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

import pandas as pd

from hustings.experiments.declaration.campaign import Campaign
from hustings.experiments.declaration.section import (
    CampaignError,
    is_glob,
    matching_columns,
)
from hustings.features.affinity import AFFINITY_PREFIX
from hustings.features.derived import Derivation
from hustings.features.draft import suspicious_columns
from hustings.features.partner import FEATURES_PERMITTED, LIFT_PREFIX, WIDTH_PREFIX
from hustings.features.persons.linked_reactions import REACTED_PREFIX
from hustings.features.persons.provider import bare_column, permitted_columns
from hustings.features.tables import (
    HISTORY_PREFIX,
    PROVIDER_PREFIX,
    VOTERS,
    identifying_columns,
    is_derived,
)
from hustings.serving.rules import WORDS, RuleSet, rule_set

# ids and addresses say who somebody is, not what moves them
NEVER_FEATURES = identifying_columns(VOTERS) | {
    "voter_id",
    "household_id",
    "cluster_id",
    "precinct",
}


OF_NO_PERSON = (HISTORY_PREFIX, AFFINITY_PREFIX)
"""Columns that begin so have our own names: past elections, and what a cell of many
people likes. Derived columns are made of answered ones."""


def feature_columns(campaign: Campaign, voters_columns: Sequence[str]) -> list[str]:
    """The columns of the voters that may be features, in the file's order.

    Globs leave out what identifies somebody, what is excluded, and special categories
    without a legal basis; naming such a column outright is an error.

    Args:
        campaign: The declaration.
        voters_columns: Columns of the checked voters.

    Raises:
        CampaignError: If a declared column is not there, or never a feature, or no
            column is left.
    """
    declared = campaign.features
    barred = set(NEVER_FEATURES) | barred_from_features(campaign, voters_columns)
    barred |= matching_columns([f"{WIDTH_PREFIX}*"], voters_columns)
    if not _partner_features_permitted(campaign):
        barred |= matching_columns([f"{LIFT_PREFIX}*"], voters_columns)
    barred |= matching_columns(
        [f"{PROVIDER_PREFIX}*"], voters_columns
    ) - permitted_columns(voters_columns, _permitted_uses(campaign), FEATURES_PERMITTED)
    for pattern in declared.columns:
        _check_pattern(campaign, pattern, voters_columns)
    ruled_out = {c for c in voters_columns if _rules(campaign).code_of_column(c)}
    barred |= ruled_out
    allowed = matching_columns(declared.columns, voters_columns)
    allowed |= {name for name in voters_columns if is_derived(name)}
    allowed -= barred
    if not allowed:
        raise CampaignError(
            f"{campaign.file}, [features].columns: expected at least one column that "
            "may be a feature, got none"
        )
    return [name for name in voters_columns if name in allowed]


def answered_feature_columns(campaign: Campaign, voters: pd.DataFrame) -> list[str]:
    """The columns that may be features, once every suspicious one is answered.

    A column that may tell of a special category, by its name or by its values, is one
    or is none only by a person's word: the guardrail binds on what is there, providers'
    columns included, whatever was declared.

    Args:
        campaign: The declaration.
        voters: The checked voters, with every column that is joined to them.

    Raises:
        CampaignError: As `feature_columns`, or if a suspicious column is named neither
            in special_categories nor in not_special.
    """
    columns = feature_columns(campaign, list(voters.columns))
    declared = campaign.features
    answers = [*declared.special_categories, *declared.not_special]
    answered = matching_columns(answers, columns)
    unanswered: dict[str, str] = {}
    for name in columns:
        if name in answered or is_derived(name) or name.startswith(OF_NO_PERSON):
            continue
        bare = bare_column(name) or name.removeprefix(REACTED_PREFIX)
        looks = suspicious_columns(
            dict.fromkeys([bare, _source_column(campaign, name)], voters[name])
        )
        if looks:
            unanswered[name] = next(iter(looks.values()))
    if unanswered:
        raise CampaignError(
            f"{campaign.file}, [features]: expected an answer for every column that "
            "may tell of a special category of personal data (race, religion, health "
            "and the like), got none for "
            + ", ".join(f"{name!r} ({reason})" for name, reason in unanswered.items())
            + "; name each in special_categories, where it is one and is left out "
            "without a legal_basis_special, or in not_special, where it is none"
        )
    return columns


def _source_column(campaign: Campaign, name: str) -> str:
    """What the voter file calls a column: another name hides nothing."""
    source = campaign.tables["voters"]
    origin = {**source.columns, **source.extra}.get(name)
    return (origin and origin.column) or name


def special_columns(campaign: Campaign, columns: Sequence[str]) -> frozenset[str]:
    """Columns that the campaign declares a special category."""
    return frozenset(matching_columns(campaign.features.special_categories, columns))


def derivation(
    campaign: Campaign,
    voters_columns: Sequence[str],
    *,
    as_of: pd.Timestamp,
) -> Derivation:
    """Features that the campaign derives of its voter file, and from which columns.

    What is excluded, and a special category without a legal basis, is part of no
    derived column either; ids of households and areas only group people.

    Args:
        campaign: The declaration.
        voters_columns: Columns of the checked voters.
        as_of: The first delivery.
    """
    barred = barred_from_features(campaign, voters_columns)
    usable = [c for c in voters_columns if c not in barred and not is_derived(c)]
    groups = tuple(dict.fromkeys(campaign.features.derived))
    return Derivation(groups, tuple(usable), as_of, ())


def barred_from_features(campaign: Campaign, columns: Sequence[str]) -> set[str]:
    """Columns that the campaign excludes, special categories without a basis included.

    What is barred may not come back by another way either, such as a cell of it.
    """
    declared = campaign.features
    barred = matching_columns(declared.exclude, columns)
    if not declared.legal_basis_special:
        barred |= matching_columns(declared.special_categories, columns)
    return barred


def _rules(campaign: Campaign) -> RuleSet:
    return rule_set(campaign.campaign.rule_set)


def _partner_features_permitted(campaign: Campaign) -> bool:
    """Whether the licence of a partner's lifts names features among their uses."""
    source = campaign.tables.get("partner_scores")
    return source is not None and FEATURES_PERMITTED in source.permitted_use.lower()


def _permitted_uses(campaign: Campaign) -> dict[str, str]:
    return {name: p.table.permitted_use for name, p in campaign.providers.items()}


def _check_pattern(campaign: Campaign, pattern: str, columns: Sequence[str]) -> None:
    where = f"{campaign.file}, [features].columns"
    if pattern in NEVER_FEATURES:
        raise CampaignError(
            f"{where}: {pattern!r} says who somebody is, never a feature"
        )
    # a pattern leaves out what the rules refuse; naming it outright is an error
    code = "" if is_glob(pattern) else _rules(campaign).code_of_column(pattern)
    if code:
        raise CampaignError(
            f"{where}: {pattern!r} is {WORDS[code]}: rule set "
            f"{campaign.campaign.rule_set!r} refuses it ({code})"
        )
    asks_partner = pattern.startswith(LIFT_PREFIX)
    if asks_partner and not _partner_features_permitted(campaign):
        raise CampaignError(
            f"{where}: {pattern!r} is a partner's: expected a permitted_use in "
            f"[tables.partner_scores] that names {FEATURES_PERMITTED!r}, got none"
        )
    if pattern.startswith(REACTED_PREFIX):
        return  # there are none where nobody who reacted could be linked
    if not matching_columns([pattern], columns):
        near = get_close_matches(pattern, list(columns), n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise CampaignError(
            f"{where}: expected a column {pattern!r} among the voters{hint}, got "
            f"{', '.join(columns)}"
        )


def check_experiments(campaign: Campaign, experiment_ids: Iterable[str]) -> None:
    """Refuse one budget over experiments whose outcomes cannot be compared.

    Lifts compare only within an experiment, unless each is given a value.

    Raises:
        CampaignError: If several experiments share an audience without values, or a
            value is declared for an experiment that is not there.
    """
    ids = sorted(set(experiment_ids))
    strange = sorted(set(campaign.experiments) - set(ids))
    if strange:
        raise CampaignError(
            f"{campaign.file}, [experiments.{strange[0]}]: expected one of the "
            f"experiments {', '.join(ids)}"
        )
    unvalued = [name for name in ids if name not in campaign.experiments]
    if len(ids) > 1 and unvalued and campaign.plan.audience != "experiment":
        raise CampaignError(
            f"{campaign.file}, [plan].audience: {len(ids)} experiments measure "
            'outcomes that cannot be compared: expected audience = "experiment", or an '
            f"[experiments.{unvalued[0]}] with its value"
        )
