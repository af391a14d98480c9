"""What a campaign may declare, what it may not, and how it is told."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from hustings.experiments.declaration import (
    EXPERIMENTS,
    Campaign,
    CampaignError,
    check_experiments,
    data_dir,
    feature_columns,
    load_campaign,
    parse_campaign,
    toml_lines,
)
from hustings.features.draft import campaign_toml, draft_campaign

TERMS = 'source = "s"\nlicence = "l"\npermitted_use = "u"\n'
TEXT = f"""\
[campaign]
name = "tiny"
title = "A tiny campaign"
question = "Does it work?"
rule_set = "us_default"
as_of = 2012-09-01
seed = 1

[outcome]
name = "moved"
label = "moved"
kind = "binary"
measures = "support"
higher_is_better = true
absent = "missing"
unit_per_point = 0.01

[plan]
budget_usd = 100.0
start_on = 2012-09-03
days = 10
holdout_share = 0.1

[features]
columns = ["*"]
special_categories = ["HISP"]

[tables.voters]
path = "voters.csv"
observed_on = 2012-08-01
{TERMS}
[tables.voters.columns]
voter_id = "ID"
age = "AGE"
""" + "".join(
    f'\n[tables.{name}]\npath = "{name}.csv"\n{TERMS}'
    for name in ("messages", "designs", "deliveries", "responses", "costs")
)
VOTERS = ["voter_id", "household_id", "cluster_id", "postcode", "precinct",
          "birth_year", "age", "voted_20081104_general", "HISP", "income"]  # fmt: skip


def with_line(before: str, after: str) -> str:
    assert TEXT.count(before) == 1, before
    return TEXT.replace(before, after)


def parsed(before: str = "seed = 1", after: str = "seed = 1") -> Campaign:
    return parse_campaign(with_line(before, after))


def test_a_monitor_pauses_nothing_and_tells_nobody_unless_it_is_declared() -> None:
    silent = parsed().monitor
    assert (silent.pause_on, silent.alerts) == ("never", None)
    told = """seed = 1
[monitor]
pause_on = "backlash"
hours = 12
[monitor.alerts]
smtp_host = "mail.example.org"
mail_from = "desk@example.org"
mail_to = ["ada@example.org"]
"""
    monitor = parsed("seed = 1", told).monitor
    assert (monitor.pause_on, monitor.rules()["hours"]) == ("backlash", 12)
    assert monitor.alerts is not None
    assert monitor.alerts.smtp_security == "starttls"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('pause_on = "always"', "[monitor].pause_on (line 9): expected 'never' or"),
        ("alpha = 0.5", "[monitor].alpha (line 9): expected less than or equal to 0.1"),
        ("tolerated_rise = 0.5", "[monitor].tolerated_rise (line 9): expected greater"),
        ('alerts = {smtp_host = "h"}', "expected mail_from and mail_to beside"),
        ('alerts = {webhook = "file:///etc"}', 'expected webhook = "https'),
        ("pauze_on = 1", "did you mean 'pause_on'?"),
    ],
)
def test_a_wrong_monitor_is_refused(line: str, told: str) -> None:
    with pytest.raises(CampaignError) as failure:
        parsed("seed = 1", f"seed = 1\n[monitor]\n{line}")
    assert told in str(failure.value)


def test_a_report_shows_no_map_unless_one_is_declared() -> None:
    assert parsed().report.map is None
    told = 'seed = 1\n[report]\nmap = "raw:a.topojson"\nvotes_needed = 1200\n'
    report = parsed("seed = 1", told).report
    assert (report.map, report.map_id, report.votes_needed) == (
        "raw:a.topojson", "id", 1_200,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("votes_needed = 0", "[report].votes_needed (line 9): expected greater than"),
        ("mapp = 'x'", "did you mean 'map'?"),
        ("map = ''", "[report].map (line 9): expected"),
    ],
)
def test_a_wrong_report_is_refused(line: str, told: str) -> None:
    with pytest.raises(CampaignError) as failure:
        parsed("seed = 1", f"seed = 1\n[report]\n{line}")
    assert told in str(failure.value)


def test_a_whole_campaign_is_read() -> None:
    campaign = parsed()
    assert campaign.plan.budget_usd == 100
    assert campaign.plan.explore_share == 0.05
    assert campaign.tables["voters"].columns["age"].column == "AGE"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        (
            "budget_usd = 100.0",
            'budget_usd = "much"',
            "[plan].budget_usd (line 19): expected a valid",
        ),
        (
            "budget_usd = 100.0",
            "budget_usd = -1.0",
            "(line 19): expected greater than 0, got -1.0",
        ),
        ("budget_usd = 100.0", "", "[plan] (line 18): expected exactly one of"),
        (
            "days = 10",
            "days = 10\nspend_per_voter_usd = 5.0",
            "exactly one of budget_usd and spend",
        ),
        (
            "days = 10",
            "dayz = 10",
            "(line 21): not a key of a campaign; did you mean 'days'?",
        ),
        ("days = 10", "", "[plan].days (line 18): expected the key 'days', got none"),
        (
            "holdout_share = 0.1",
            "holdout_share = 0.0",
            "holdout_share (line 22): expected greater",
        ),
        (
            "holdout_share = 0.1",
            "holdout_share = 1.0",
            "holdout_share (line 22): expected less",
        ),
        ("holdout_share = 0.1", "", "expected the key 'holdout_share'"),
        (
            "holdout_share = 0.1",
            "holdout_share = 0.96",
            "holdout_share + explore_share below 1",
        ),
        ("higher_is_better = true", "", "expected the key 'higher_is_better'"),
        (
            'rule_set = "us_default"',
            'rule_set = "none"',
            "[campaign].rule_set (line 5): expected 'us_default', 'eu_2024_900'",
        ),
        (
            "as_of = 2012-09-01",
            "as_of = 2012-09-04",
            "as_of on or before plan.start_on",
        ),
        ("observed_on = 2012-08-01", "", "expected observed_on"),
        (
            'age = "AGE"',
            'age = { column = "AGE", value = 3 }',
            "columns.age (line 37): expected exactly one of column",
        ),
        ('path = "costs.csv"', "", "[tables.costs] (line"),
        ("[tables.costs]", "[tables.prices]", "expected a section [tables.costs]"),
        ("[features]", "[feature]", "did you mean 'features'?"),
        ("seed = 1", "seed = ", "not valid TOML"),
    ],
)
def test_an_error_names_key_line_and_expectation(
    before: str, after: str, told: str
) -> None:
    with pytest.raises(CampaignError) as failure:
        parsed(before, after)
    assert told in str(failure.value)
    assert str(failure.value).startswith("campaign.toml")


@pytest.mark.parametrize("key", ["source", "licence", "permitted_use"])
def test_a_table_without_its_terms_is_refused_by_table_and_key(key: str) -> None:
    first = TEXT.index(f"{key} = ")
    end = TEXT.index("\n", first)
    for line in ("", f'{key} = " "'):
        with pytest.raises(CampaignError, match=rf"\[tables\.voters\]\.{key} "):
            parse_campaign(TEXT[:first] + line + TEXT[end:])


def test_nobody_is_rewarded_for_keeping_people_from_voting() -> None:
    turnout = with_line('measures = "support"', 'measures = "turnout"')
    parse_campaign(turnout)
    with pytest.raises(CampaignError, match="keeping people from voting"):
        parse_campaign(turnout.replace("higher_is_better = true",
                                       "higher_is_better = false"))  # fmt: skip


def test_every_fault_is_told_at_once() -> None:
    text = with_line("days = 10", "days = 0").replace("seed = 1", "seed = -1")
    with pytest.raises(CampaignError) as failure:
        parse_campaign(text)
    assert len(str(failure.value).splitlines()) == 2


# --- features -----------------------------------------------------------------------


def test_a_star_leaves_out_ids_addresses_and_special_categories() -> None:
    assert feature_columns(parsed(), VOTERS) == [
        "age", "voted_20081104_general", "income",
    ]  # fmt: skip


def test_a_stated_legal_basis_lets_special_categories_in() -> None:
    campaign = parsed(
        'special_categories = ["HISP"]',
        'special_categories = ["HISP"]\nlegal_basis_special = "explicit consent"',
    )
    assert "HISP" in feature_columns(campaign, VOTERS)


@pytest.mark.parametrize("special", ["HISP", "HI*"])
def test_a_special_category_by_name_needs_a_legal_basis(special: str) -> None:
    text = with_line('columns = ["*"]', 'columns = ["HISP"]')
    with pytest.raises(CampaignError, match="legal_basis_special"):
        parse_campaign(text.replace('["HISP"]\n\n', f'["{special}"]\n\n'))
    segment = with_line('columns = ["*"]', 'columns = ["*"]\nsegment = ["HISP"]')
    with pytest.raises(CampaignError, match="legal_basis_special"):
        parse_campaign(segment)


def test_excluded_columns_are_no_features() -> None:
    campaign = parsed('columns = ["*"]', 'columns = ["*"]\nexclude = ["voted_*"]')
    assert feature_columns(campaign, VOTERS) == ["age", "income"]


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ('["incone"]', r"'incone' among the voters \(did you mean 'income'\?\)"),
        ('["NH_*"]', r"'NH_\*' among the voters"),
        ('["voter_id"]', "says who somebody is"),
        ('["postcode"]', "says who somebody is"),
        ('["HI*"]', "at least one column that may be a feature"),
    ],
)
def test_a_column_that_cannot_be_a_feature_is_told(columns: str, told: str) -> None:
    campaign = parsed('columns = ["*"]', f"columns = {columns}")
    with pytest.raises(CampaignError, match=told):
        feature_columns(campaign, VOTERS)


# --- several experiments --------------------------------------------------------------


def test_one_budget_over_several_experiments_needs_their_values() -> None:
    check_experiments(parsed(), ["one"])
    with pytest.raises(CampaignError, match='audience = "experiment"'):
        check_experiments(parsed(), ["one", "two"])
    apart = parsed("days = 10", 'days = 10\naudience = "experiment"')
    check_experiments(apart, ["one", "two"])
    valued = TEXT + "\n[experiments.one]\nvalue = 1.0\n[experiments.two]\nvalue = 2.0\n"
    check_experiments(parse_campaign(valued), ["one", "two"])
    with pytest.raises(CampaignError, match="experiments one"):
        check_experiments(parse_campaign(valued), ["one"])


# --- files ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["persuasion_flyer", "2006_mailers", "2024_issue_messages"]
)
def test_a_shipped_campaign_is_found_by_name_folder_and_file(name: str) -> None:
    by_name = load_campaign(name)
    assert by_name.campaign.name == name
    assert by_name.folder == EXPERIMENTS / name
    folder = EXPERIMENTS / name
    assert load_campaign(folder) == load_campaign(folder / "campaign.toml")


def test_a_campaign_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(CampaignError, match=r"no_such.*2006_mailers.*persuasion_flyer"):
        load_campaign("no_such")


def test_the_folder_of_public_data_is_a_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HUSTINGS_DATA", str(tmp_path))
    assert data_dir() == tmp_path
    monkeypatch.delenv("HUSTINGS_DATA")
    assert data_dir().parts[-2:] == ("shared", "data")


def test_lines_are_found_through_strings_arrays_and_comments() -> None:
    text = (
        '# a = 1\n[one]\na = """\n[two]\nb = 1\n"""\nc = [\n  1, # ]\n  2,\n]\n\n'
        '"d=e" = 1\n[ two . "x y" ] # f\nf.g = { h = 1 }\n[[three]]\ni = 1\n'
    )
    tomllib.loads(text)
    assert toml_lines(text) == {
        ("one",): 2, ("one", "a"): 3, ("one", "c"): 7, ("one", "d=e"): 12,
        ("two", "x y"): 13, ("two", "x y", "f", "g"): 14, ("three",): 15,
        ("three", "i"): 16,
    }  # fmt: skip


def test_a_draft_loads_once_it_is_filled_in(tmp_path: Path) -> None:
    path = tmp_path / "voters.csv"
    path.write_text("voter_id,age,VG_08\n1,30,1\n2,40,0\n")
    text = campaign_toml(draft_campaign([path], layout=""), None)
    with pytest.raises(CampaignError) as failure:
        parse_campaign(text)
    blanks = [line.split(" =")[0] for line in text.splitlines() if '= ""' in line]
    assert {"title", "source", "observed_on"} <= set(blanks)
    assert "[tables.voters].source" in str(failure.value)
    answers: dict[str, Any] = {
        "as_of": "2012-09-01", "start_on": "2012-09-02", "observed_on": "2012-08-01",
        "budget_usd": "10.0", "kind": '"binary"', "measures": '"support"',
        "legal_basis_special": '""', "unit_per_point": "0.01",
    }  # fmt: skip
    filled = []
    for line in text.splitlines():
        key = line.split(" =")[0]
        blank = line.startswith(f'{key} = ""') and not line.startswith(" ")
        filled.append(f"{key} = {answers.get(key, chr(34) + 'x' + chr(34))}"
                      if blank else line)  # fmt: skip
    campaign = parse_campaign("\n".join(filled))
    assert set(campaign.tables["voters"].columns) == {"voter_id", "age"}
    assert set(campaign.tables["voters"].history) == {"2008-11-04 general"}


# --- who may be linked ----------------------------------------------------------------

LINK = f"""
[link]
bases = ["consent"]

[link.voters]
path = "identities.csv"
{TERMS}"""
PROVIDER = f"""
[providers.acme]
join = "linked"

[providers.acme.table]
path = "acme.csv"
observed_on = 2012-08-01
{TERMS}"""


def test_nobody_is_linked_where_nothing_is_declared() -> None:
    assert parse_campaign(TEXT).link is None
    declared = parse_campaign(TEXT + LINK).link
    assert declared is not None
    assert declared.bases == ["consent"]
    assert declared.threshold == 0.5


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('bases = ["consent"]', 'bases = ["public_register"]', r"\[link\].bases"),
        ('bases = ["consent"]', "bases = []", r"\[link\].bases"),
        (
            'bases = ["consent"]', 'bases = ["consent"]\nthreshold = 0.3',
            r"\[link\].threshold",
        ),
        ('bases = ["consent"]', "", "expected the key 'bases'"),
    ],
)  # fmt: skip
def test_a_link_without_a_basis_or_more_likely_wrong_is_refused(
    old: str, new: str, told: str
) -> None:
    with pytest.raises(CampaignError, match=told):
        parse_campaign(TEXT + LINK.replace(old, new))


def test_a_provider_is_dated_and_finds_people_only_where_identities_are() -> None:
    assert parse_campaign(TEXT + LINK + PROVIDER).providers["acme"].join == "linked"
    with pytest.raises(CampaignError, match=r"expected a section \[link\]"):
        parse_campaign(TEXT + PROVIDER)
    undated = PROVIDER.replace("observed_on = 2012-08-01\n", "")
    with pytest.raises(CampaignError, match=r"expected table\.observed_on"):
        parse_campaign(TEXT + LINK + undated)


def test_a_providers_columns_are_features_only_where_its_terms_say_so() -> None:
    columns = ["age", "provider__acme__income"]
    refused = parse_campaign(TEXT + LINK + PROVIDER)
    assert feature_columns(refused, columns) == ["age"]
    named = PROVIDER.replace('permitted_use = "u"', 'permitted_use = "features"')
    assert feature_columns(parse_campaign(TEXT + LINK + named), columns) == columns


LIMITS = """holdout_share = 0.1
minimum_audience = 50
confidence = 0.9
[plan.channels.mail]
setup_usd = 20.0
minimum_order = 100
[plan.messages.schools]
least = 100
most = 500
[plan.groups.young]
column = "age_band"
values = ["18-34"]
low = 0.2
high = 0.4
[plan.only]
column = "county_fips"
values = ["48001"]
"""


def test_limits_of_a_plan_are_declared_by_channel_message_group_and_place() -> None:
    plan = parsed("holdout_share = 0.1", LIMITS).plan
    assert plan.channels["mail"].setup_usd == 20.0
    assert (plan.messages["schools"].least, plan.messages["schools"].most) == (100, 500)
    assert (plan.groups["young"].low, plan.groups["young"].high) == (0.2, 0.4)
    assert plan.only is not None
    assert plan.only.values == ["48001"]
    bare = parsed().plan
    assert (bare.channels, bare.groups, bare.only) == ({}, {}, None)
    assert (bare.minimum_audience, bare.confidence) == (0, 0.5)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("least = 100", "least = 600", "expected least at or below most, got 600"),
        ("low = 0.2", "low = 0.6", r"expected low at or below high, got 0\.6"),
        ("low = 0.2\nhigh = 0.4\n", "", "this group limits nothing"),
        ("confidence = 0.9", "confidence = 0.3", "confidence"),
        (
            "setup_usd = 20.0",
            "setup_usd = 200.0",
            "setup_usd within the budget",
        ),
        ("least = 100", "lest = 100", "not a key of a campaign"),
    ],
)
def test_a_wrong_limit_is_told_with_its_key(before: str, after: str, told: str) -> None:
    assert LIMITS.count(before) == 1
    with pytest.raises(CampaignError, match=told):
        parsed("holdout_share = 0.1", LIMITS.replace(before, after))


def test_an_unknown_key_is_told_with_the_keys_of_its_own_section() -> None:
    """A section within a section has keys of its own."""
    text = load_campaign("sample").file.read_text()
    text += "\n[plan.channels.mail]\nsetup = 10.0\n"
    line = len(text.splitlines())
    with pytest.raises(CampaignError) as failure:
        parse_campaign(text)
    told = str(failure.value)
    assert f"[plan].channels.mail.setup (line {line})" in told
    assert "did you mean 'setup_usd'?" in told
    assert "budget_usd" not in told


def test_a_rule_between_sections_names_the_line_of_what_to_mend() -> None:
    text = load_campaign("sample").file.read_text()
    text = text.replace('"us_default"', '"eu_2024_900"', 1)
    line = text.splitlines().index("[tables.voters]") + 1
    with pytest.raises(CampaignError, match=rf"\(line {line}\).*collected_from"):
        parse_campaign(text)
