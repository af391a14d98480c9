"""What a campaign may declare under each rule set, and texts that somebody signs."""

from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from hustings.experiments.cli import OK, app
from hustings.experiments.declaration import (
    CampaignError,
    feature_columns,
    load_campaign,
    parse_campaign,
)
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.plans.signing import sign_text, signed_texts
from hustings.serving.voting_text import text_digest

SAMPLE = Path(load_campaign("sample").file)
AT = pd.Timestamp("2026-09-01", tz="UTC")
COLUMNS = [
    "voter_id", "age", "sex", "party", "urbanicity", "county_fips", "consumer_score",
    "income_usd", "affinity__jobs", "reacted__jobs", "provider__x__y", "partner__x__m",
]  # fmt: skip


def declared(rule_set: str, columns: str, more: str = "") -> str:
    """The sample's declaration under other rules."""
    text = SAMPLE.read_text().replace('"us_default"', f'"{rule_set}"', 1)
    start, end = text.index("columns = ["), text.index("exclude = []")
    text = text[:start] + f"columns = {columns}\n" + text[end:]
    return text.replace("observed_on = 2026-03-15", f"observed_on = 2026-03-15\n{more}")


FROM_PERSON = 'collected_from = "person"'


@pytest.mark.parametrize(
    ("column", "code"),
    [
        ("party", "profiles_opinion"),
        ("consumer_score", "profiles_opinion"),
        ("affinity__jobs", "inferred_affinity"),
        ("reacted__jobs", "linked_reactions"),
        ("provider__x__y", "bought_data"),
        ("partner__x__m", "bought_data"),
    ],
)
def test_in_the_union_a_column_that_may_not_target_is_refused_with_its_code(
    column: str, code: str
) -> None:
    asked = parse_campaign(declared("eu_2024_900", f'["age", "{column}"]', FROM_PERSON))
    with pytest.raises(CampaignError, match=rf"'{column}' is .*\({code}\)"):
        feature_columns(asked, COLUMNS)


def test_a_pattern_brings_no_column_in_that_the_rules_refuse() -> None:
    asked = parse_campaign(declared("eu_2024_900", '["*"]', FROM_PERSON))
    assert feature_columns(asked, COLUMNS) == [
        "age", "sex", "urbanicity", "county_fips", "income_usd"
    ]  # fmt: skip


def test_data_that_were_not_collected_from_the_person_are_refused() -> None:
    for more in ("", 'collected_from = "register"'):
        with pytest.raises(CampaignError, match="not_from_person"):
            parse_campaign(declared("eu_2024_900", '["age"]', more))


def test_a_predicted_support_is_no_objective_in_the_union() -> None:
    text = declared("eu_2024_900", '["age"]', FROM_PERSON)
    votes = text.replace('kind = "continuous"', 'kind = "continuous"\nvalue = "votes"')
    with pytest.raises(CampaignError, match="predicts_support"):
        parse_campaign(votes)
    parse_campaign(votes.replace("eu_2024_900", "us_default"))


def test_where_only_places_choose_no_other_column_may() -> None:
    asked = parse_campaign(declared("places_only", '["age", "income_usd"]'))
    with pytest.raises(CampaignError, match="too_narrow"):
        feature_columns(asked, COLUMNS)
    plain = parse_campaign(declared("places_only", '["*"]'))
    assert feature_columns(plain, COLUMNS) == [
        "age",
        "sex",
        "urbanicity",
        "county_fips",
    ]


def test_a_turnout_that_counts_against_voting_is_no_declaration() -> None:
    text = SAMPLE.read_text().replace(
        'measures = "support"', 'measures = "support"\nturnout_weight = -0.1'
    )
    with pytest.raises(CampaignError, match=r"of at least 0, got -0\.1"):
        parse_campaign(text)


# --- signatures -----------------------------------------------------------------------

MESSAGES = pd.DataFrame({"message_id": ["m"], "text": ["Vote by mail."]})


def test_a_signature_stands_in_the_ledger_with_its_name(tmp_path: Path) -> None:
    assert signed_texts(tmp_path) == frozenset()
    sign_text(tmp_path, MESSAGES, "m", by="Ada Pell", at=AT)
    assert signed_texts(tmp_path) == {text_digest("Vote by mail.")}
    assert open_ledger(tmp_path).verify().fault == ""
    (entry,) = open_ledger(tmp_path).of_kind("message signed")
    assert '"by":"Ada Pell"' in entry.body
    assert "Vote by mail" not in entry.body


def test_nobody_signs_for_nobody(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected the name of who signs"):
        sign_text(tmp_path, MESSAGES, "m", by=" ", at=AT)
    with pytest.raises(ValueError, match="expected one of the messages m, got 'x'"):
        sign_text(tmp_path, MESSAGES, "x", by="Ada Pell", at=AT)


def test_the_rules_of_a_campaign_are_told_with_their_sources() -> None:
    done = CliRunner().invoke(app, ["rules", "--campaign", "sample"])
    assert done.exit_code == OK
    assert "47 CFR 64.1200" in done.output
