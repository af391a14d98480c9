"""The simulated campaign keeps the truth that it declares."""

import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal
from scipy.optimize import linprog

from hustings.features.simulated.campaign import (
    AS_OF,
    CHANNEL_MULTIPLIERS,
    COSTS_USD,
    MAP_FILE,
    OBSERVED_ON,
    Sample,
    simulate,
    write_sample,
)
from hustings.features.tables import (
    CONTROL,
    FROM_ELSEWHERE,
    HISTORY_PREFIX,
    RAW_TABLES,
    check,
)
from hustings.features.topology import county_shapes, read_topology

CAMPAIGN = Path(__file__).parents[2] / "experiments/sample/campaign.toml"


@pytest.fixture(scope="module")
def sample() -> Sample:
    return simulate(n_voters=20_000, seed=11)


@pytest.fixture(scope="module")
def null_twin() -> Sample:
    return simulate(n_voters=20_000, seed=11, null_twin=True)


@pytest.fixture(scope="module")
def declared() -> dict:
    return tomllib.loads(CAMPAIGN.read_text())


def lifts_of(sample: Sample) -> pd.DataFrame:
    return sample.truth.filter(like="lift__").rename(
        columns=lambda name: name.removeprefix("lift__")
    )


def outcome_of(sample: Sample, outcome: str) -> pd.DataFrame:
    responses = sample.tables["responses"]
    responses = responses[responses["outcome"] == outcome]
    return responses.merge(sample.tables["deliveries"], on="voter_id").merge(
        sample.truth, on="voter_id"
    )


def untargeted_value(lift: np.ndarray, spend_usd: float) -> float:
    """Best mix of arms to random people, as a linear programme."""
    value = np.outer(lift.mean(axis=0), list(CHANNEL_MULTIPLIERS.values())).ravel()
    cost = np.tile(list(COSTS_USD.values()), lift.shape[1])
    found = linprog(-value, A_ub=[np.ones_like(cost), cost], b_ub=[1, spend_usd])
    return -found.fun


def oracle_value(lift: np.ndarray, spend_usd: float) -> float:
    """Best plan person by person: the Lagrangian dual, exact for one budget."""
    multiplier = np.array(list(CHANNEL_MULTIPLIERS.values()))
    cost = np.array(list(COSTS_USD.values()))
    value = lift.max(axis=1)[:, None] * multiplier

    def dual(price: float) -> float:
        surplus = np.maximum((value - price * cost).max(axis=1), 0)
        return surplus.mean() + price * spend_usd

    # the dual is convex in the price: trisection
    low, high = 0.0, 100.0
    for _ in range(100):
        third = (high - low) / 3
        if dual(low + third) < dual(high - third):
            high -= third
        else:
            low += third
    return dual(low)


def test_every_table_keeps_its_declaration(sample: Sample) -> None:
    brought = set(RAW_TABLES) - set(FROM_ELSEWHERE) - {"do_not_contact", "addresses"}
    assert set(sample.tables) == brought
    for name, table in sample.tables.items():
        assert_frame_equal(check(RAW_TABLES[name], table), table)


def test_the_same_seed_draws_the_same_sample_and_another_seed_another() -> None:
    first, again, other = (simulate(n_voters=1_000, seed=s) for s in (3, 3, 4))
    for name, table in first.tables.items():
        assert_frame_equal(table, again.tables[name])
    assert_frame_equal(first.truth, again.truth)
    assert_frame_equal(first.links, again.links)
    assert not first.tables["voters"].equals(other.tables["voters"])


@pytest.mark.parametrize("n_messages", [2, 8, 12, 16])
def test_any_number_of_messages_is_tested_on_the_same_people(n_messages: int) -> None:
    sample = simulate(n_voters=1_000, seed=3, n_messages=n_messages)
    messages = sample.tables["messages"]
    words = messages["text"].str.split().str.len()
    assert len(messages) == messages["text"].nunique() == n_messages
    assert messages["issue"].nunique() == min(n_messages, 4)
    assert words.between(40, 80).all()
    assert list(lifts_of(sample)) == messages["message_id"].tolist()
    eight = simulate(n_voters=1_000, seed=3)
    assert_frame_equal(sample.tables["voters"], eight.tables["voters"])


@pytest.mark.parametrize(
    ("sizes", "told"),
    [({"n_messages": 17}, r"\[2, 16\], got 17"), ({"n_voters": 5}, "at least 100")],
)
def test_a_size_out_of_range_is_refused(sizes: dict, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        simulate(**sizes)


def test_messages_move_as_declared(sample: Sample) -> None:
    lift = lifts_of(sample)
    assert (lift["schools_trades"] == 0).all()
    assert (lift["health_hospital"] == 2).all()
    moving = lift.drop(columns="schools_trades").mean()
    assert moving.between(1, 5).all()
    assert (lift.drop(columns=["schools_trades", "health_hospital"]).std() > 0.9).all()


def test_one_message_turns_republican_homeowners_away(sample: Sample) -> None:
    voters = sample.tables["voters"]
    hardline = (voters["party"] == "R") & (voters["homeowner"] == 1)
    backlash = lifts_of(sample)["safety_background_checks"]
    assert backlash[hardline].max() < 0
    assert backlash.min() == backlash[hardline].min()
    assert backlash.mean() > 0
    others = lifts_of(sample).drop(columns="safety_background_checks")
    assert others.to_numpy().min() >= 0


def test_lifts_and_baseline_follow_from_the_voter_file(sample: Sample) -> None:
    """Voters alike on file are alike in truth: nothing hidden drives a lift."""
    voters = sample.tables["voters"]
    seen = ["age", "sex", "party", "homeowner", "college", "children_at_home"]
    history = voters.filter(like=HISTORY_PREFIX).mean(axis=1).round(6)
    alike = voters[[*seen, "urbanicity"]].assign(history=history.fillna(-1))
    assert alike.notna().all(axis=None)
    truth = sample.truth.filter(regex="^lift__|^baseline")
    spread = truth.groupby([alike[c] for c in alike]).agg(["min", "max"])
    twins = alike.groupby(list(alike)).size()
    assert (twins > 1).sum() > 500
    least = spread.xs("min", axis=1, level=1)
    most = spread.xs("max", axis=1, level=1)
    np.testing.assert_allclose(most, least, atol=1e-4)


def test_difference_in_means_recovers_every_true_lift(sample: Sample) -> None:
    """By message and by channel, weighted by the design, within four SE."""
    told = outcome_of(sample, "support")
    told["residual"] = told["value"] - told["baseline"]
    control = told[told["message_id"] == CONTROL]
    # twice the plain variance is more than sharing a household can add
    error_of_control = 2 * control["residual"].var() / len(control)
    for (message_id, channel), sent in told.groupby(["message_id", "channel"]):
        if message_id == CONTROL:
            continue
        found = sent["residual"].mean() - control["residual"].mean()
        true = CHANNEL_MULTIPLIERS[channel] * sent[f"lift__{message_id}"].mean()
        error = np.sqrt(2 * sent["residual"].var() / len(sent) + error_of_control)
        assert abs(found - true) < 4 * error, (message_id, channel)


def test_support_has_the_expectation_that_the_truth_states(sample: Sample) -> None:
    """Pooled over all arms: slope 1 on baseline and on lift, bounded, nothing cut."""
    told = outcome_of(sample, "support")
    lift = np.zeros(len(told))
    for message_id in lifts_of(sample):
        got = (told["message_id"] == message_id).to_numpy()
        lift[got] = told[f"lift__{message_id}"][got]
    lift *= told["channel"].map(CHANNEL_MULTIPLIERS).fillna(0)
    X = np.column_stack([np.ones(len(told)), told["baseline"] - 50, lift])
    y = told["value"].to_numpy() - 50
    coefficients = np.linalg.lstsq(X, y, rcond=None)[0]
    residual = y - X @ coefficients
    error = np.sqrt(2 * residual.var() * np.diag(np.linalg.inv(X.T @ X)))
    assert (np.abs(coefficients - [0, 1, 1]) < 4 * error).all()
    assert told["value"].between(0, 100, inclusive="neither").all()
    assert 13 < residual.std() < 18


def test_members_of_a_household_share_noise_and_assignment(sample: Sample) -> None:
    deliveries = sample.tables["deliveries"]
    home = sample.tables["voters"]["household_id"]
    drawn = ["block", "message_id", "channel", "sent_on"]
    assert (
        not deliveries[drawn]
        .assign(home=home)
        .drop_duplicates()["home"]
        .duplicated()
        .any()
    )
    told = outcome_of(sample, "support").merge(sample.tables["voters"], on="voter_id")
    control = told[told["message_id"] == CONTROL]
    noise = control["value"] - control["baseline"]
    pairs = noise.groupby(control["household_id"]).agg(["first", "last", "size"])
    pairs = pairs[pairs["size"] == 2]
    assert np.corrcoef(pairs["first"], pairs["last"])[0, 1] > 0.1


def test_propensities_are_those_of_the_design(sample: Sample) -> None:
    designs = sample.tables["designs"]
    blocks = designs.groupby("block")["probability"].sum()
    np.testing.assert_allclose(blocks, 1)
    key = ["experiment_id", "block", "message_id", "channel"]
    joined = sample.tables["deliveries"].merge(designs, on=key, validate="m:1")
    assert len(joined) == len(sample.tables["deliveries"])
    np.testing.assert_allclose(joined["propensity"], joined["probability"])


def test_arms_are_drawn_with_their_probabilities(sample: Sample) -> None:
    deliveries, designs = sample.tables["deliveries"], sample.tables["designs"]
    n_in_block = deliveries["block"].value_counts()
    key = ["block", "message_id", "channel"]
    n_drawn = deliveries.groupby(key).size()
    expected = (
        designs.set_index(key)["probability"]
        * n_in_block.reindex(designs["block"]).to_numpy()
    )
    # households of up to four are drawn as one, at most quadrupling the variance
    assert (n_drawn.sub(expected).abs() < 4 * 2 * np.sqrt(n_drawn)).all()
    control = (deliveries["message_id"] == CONTROL).mean()
    assert control == pytest.approx(0.4, abs=0.02)


def test_answering_the_survey_depends_on_age_not_on_treatment(sample: Sample) -> None:
    responses = sample.tables["responses"]
    surveyed = responses.loc[responses["outcome"] == "support", "voter_id"]
    voters = sample.tables["voters"]
    answered = voters["voter_id"].isin(surveyed)
    treated = sample.tables["deliveries"]["message_id"] != CONTROL
    assert answered.mean() == pytest.approx(0.85, abs=0.03)
    assert answered[voters["age"] > 65].mean() > answered[voters["age"] < 35].mean()
    gap = answered[treated].mean() - answered[~treated].mean()
    assert abs(gap) < 4 * np.sqrt(0.13 / treated.sum() + 0.13 / (~treated).sum())


def test_turnout_is_measured_of_everyone_and_moved_by_one_message(
    sample: Sample,
) -> None:
    told = outcome_of(sample, "turnout")
    assert len(told) == len(sample.truth)
    assert set(told["value"]) == {0.0, 1.0}
    noise = told["value"] - told["turnout_baseline"]
    assert abs(noise.mean()) < 4 * noise.std() * np.sqrt(2 / len(noise))
    voters = sample.tables["voters"]
    hardline = (voters["party"] == "R") & (voters["homeowner"] == 1)
    lift = sample.truth["turnout_lift"]
    assert (lift[~hardline] == 0).all()
    assert -0.04 < lift[hardline].mean() < -0.01
    assert (sample.truth["turnout_baseline"] + 1.5 * lift).between(0, 1).all()


def test_what_happened_is_in_order(sample: Sample) -> None:
    """The file, then the test, then the answers, then the planning."""
    voters, deliveries = sample.tables["voters"], sample.tables["deliveries"]
    elections = voters.filter(like=HISTORY_PREFIX).columns.str[6:14]
    assert pd.to_datetime(elections).max() < OBSERVED_ON
    assert voters["registered_on"].max() < OBSERVED_ON
    assert deliveries["sent_on"].min() > OBSERVED_ON
    answers = sample.tables["responses"].merge(deliveries, on="voter_id")
    assert (answers["observed_at"] > answers["sent_on"]).all()
    assert answers["observed_at"].max() < AS_OF
    assert sample.tables["reactions"]["reacted_at"].max() < AS_OF


def test_history_is_missing_exactly_before_registration(sample: Sample) -> None:
    voters = sample.tables["voters"]
    for column in voters.filter(like=HISTORY_PREFIX):
        late = voters["registered_on"] >= pd.Timestamp(column[6:14])
        assert (voters[column].isna() == late).all()
        assert 0 < late.mean() < 1


def test_birth_year_agrees_with_age(sample: Sample) -> None:
    voters = sample.tables["voters"]
    reached = OBSERVED_ON.year - voters["birth_year"] - voters["age"]
    assert set(reached) == {0.0, 1.0}


def test_ids_reveal_nothing(sample: Sample) -> None:
    voters = sample.tables["voters"]
    assert voters["voter_id"].str.fullmatch(r"V\d{7}").all()
    assert voters["household_id"].str.fullmatch(r"H\d{6}").all()
    neighbours = voters["household_id"] == voters["household_id"].shift()
    assert neighbours.mean() < 0.01
    number = voters["voter_id"].str[1:].astype(int)
    assert abs(np.corrcoef(number, sample.truth["baseline"])[0, 1]) < 0.03


def test_consents_are_partial_and_some_are_withdrawn(sample: Sample) -> None:
    consents = sample.tables["permissions"]
    n_voters = len(sample.tables["voters"])
    valid = consents[~(consents["withdrawn_at"] < AS_OF)]
    assert set(consents["channel"]) == {"sms", "phone", "email"}
    assert (valid["channel"].value_counts() / n_voters).between(0.58, 0.72).all()
    assert (consents["withdrawn_at"] < AS_OF).mean() > 0.03
    withdrawn = consents.dropna(subset="withdrawn_at")
    assert (withdrawn["withdrawn_at"] > withdrawn["granted_at"]).all()
    assert consents["granted_at"].max() < AS_OF


def test_reactions_come_from_those_who_are_fond_already(sample: Sample) -> None:
    voters = sample.tables["voters"]
    reacted = voters["voter_id"].isin(sample.links["voter_id"].dropna())
    assert reacted.mean() == pytest.approx(0.05, abs=0.01)
    baseline = sample.truth["baseline"]
    assert baseline[reacted].mean() > baseline.mean() + 2
    of_schools = sample.tables["reactions"]["message_id"].str.startswith("schools_")
    parent = voters.set_index("voter_id")["children_at_home"]
    of_parents = sample.links["voter_id"].map(parent) == 1
    assert of_schools[of_parents].mean() > 1.3 * of_schools[~of_parents].mean()


def test_identities_in_reactions_are_noisy(sample: Sample) -> None:
    reactions, links = sample.tables["reactions"], sample.links
    assert links["reaction_id"].equals(reactions["reaction_id"])
    assert 0.05 < links["voter_id"].isna().mean() < 0.2
    assert reactions["birth_year"].isna().mean() == pytest.approx(0.2, abs=0.05)
    known = links.merge(sample.tables["voters"], on="voter_id", how="left")
    off = (reactions["birth_year"] - known["birth_year"]).dropna()
    assert {-1.0, 0.0, 1.0} == set(off)
    assert (off == 0).mean() > 0.85
    one_name = reactions.groupby("person")["name"].nunique()
    assert (one_name == 1).all()


def test_names_exist_in_reactions_only(sample: Sample) -> None:
    assert "name" in sample.tables["reactions"]
    given = set(sample.tables["reactions"]["name"].str.split().str[-1])
    voters = sample.tables["voters"].select_dtypes("str")
    assert not any(given & set(voters[column].dropna()) for column in voters)


def test_personalising_is_worth_two_points_at_the_declared_spend(
    sample: Sample, declared: dict
) -> None:
    spend_usd = declared["plan"]["spend_per_voter_usd"]
    lift = lifts_of(sample).to_numpy(float)
    untargeted = untargeted_value(lift, spend_usd)
    assert oracle_value(lift, spend_usd) - untargeted >= 2.0
    # by hand: one arm, mail of the best message, to as many as the money buys
    by_mail = spend_usd / COSTS_USD["mail"] * lift.mean(axis=0).max()
    assert untargeted == pytest.approx(by_mail, rel=1e-6)


def test_in_the_null_twin_personalising_is_worth_nothing(
    sample: Sample, null_twin: Sample, declared: dict
) -> None:
    lift = lifts_of(null_twin)
    assert (lift == lift.iloc[0]).all(axis=None)
    assert lift.iloc[0].nunique() == lift.shape[1]
    np.testing.assert_allclose(lift.iloc[0], lifts_of(sample).mean(), atol=1e-3)
    assert (null_twin.truth["turnout_lift"] == 0).all()
    spend_usd = declared["plan"]["spend_per_voter_usd"]
    values = lift.to_numpy(float)
    gain = oracle_value(values, spend_usd) - untargeted_value(values, spend_usd)
    assert gain == pytest.approx(0, abs=1e-6)


def test_the_null_twin_differs_in_its_effects_alone(
    sample: Sample, null_twin: Sample
) -> None:
    for name in set(sample.tables) - {"responses"}:
        assert_frame_equal(sample.tables[name], null_twin.tables[name])
    control = [outcome_of(s, "support").query("message_id == 'control'")["value"]
               for s in (sample, null_twin)]  # fmt: skip
    assert control[0].equals(control[1])


def test_writing_keeps_every_frame_and_replaces_the_folder_as_a_whole(
    tmp_path: Path,
) -> None:
    sample = simulate(n_voters=500, seed=1)
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "stale.parquet").write_text("from an earlier run")
    assert write_sample(sample, folder) == folder
    assert {p.name for p in tmp_path.iterdir()} == {"raw"}
    written = {path.stem: pd.read_parquet(path) for path in folder.glob("*.parquet")}
    frames = {
        "truth": sample.truth,
        "truth_channels": sample.channels,
        "truth_links": sample.links,
        "identities": sample.identities,
        "truth_affinities": sample.affinities,
    }
    assert set(written) == set(sample.tables) | set(frames)
    for name, frame in (sample.tables | frames).items():
        assert_frame_equal(written[name], frame)
    topology, name = read_topology(folder / MAP_FILE, None)
    on_map = county_shapes(topology, name, "id").keys()
    assert set(sample.tables["voters"]["county_fips"].dropna()) <= on_map


def test_a_failed_write_leaves_the_old_folder(tmp_path: Path) -> None:
    sample = simulate(n_voters=500, seed=1)
    folder = write_sample(sample, tmp_path / "raw")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    unwritable = pd.DataFrame({"value": [object()]})
    broken = replace(sample, tables={"voters": unwritable})
    with pytest.raises(Exception, match="object"):
        write_sample(broken, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_campaign_declares_the_columns_that_the_voter_file_has(
    sample: Sample, declared: dict
) -> None:
    voters = declared["tables"]["voters"]
    mapped = [*voters["columns"].values(), *voters["history"].values()]
    mapped += voters["extra"]["names"]
    assert set(mapped) == set(sample.tables["voters"])
    assert set(declared["tables"]) == set(sample.tables)
    assert "church_member" in declared["features"]["special_categories"]
    assert "church_member" not in declared["features"]["columns"]


def test_identities_are_of_the_voters_and_of_who_reacted(sample: Sample) -> None:
    """They are drawn last: the tables are what they were before there were any."""
    identities = sample.identities.set_index("voter_id")
    assert identities.index.tolist() == sample.tables["voters"]["voter_id"].tolist()
    assert "identities" not in sample.tables
    reactions = sample.tables["reactions"]
    who = reactions.merge(sample.links, on="reaction_id").dropna(subset=["voter_id"])
    named = who["name"].str.split().str[-1]
    on_file = who["voter_id"].map(identities["last_name"])
    # a tenth are known by a name of their own, and some are mistyped
    assert 0.8 < (named == on_file).mean() < 1.0
    assert 0.3 < reactions["basis"].isna().mean() < 0.5
    per_person = reactions.groupby("person")["basis"].nunique(dropna=False)
    assert (per_person == 1).all()


def test_early_reactions_come_after_the_others_in_the_table_and_before_the_test() -> (
    None
):
    plain = simulate(n_voters=2_000, seed=3)
    more = simulate(n_voters=2_000, seed=3, early_reactions=True)
    n = len(plain.tables["reactions"])
    assert_frame_equal(more.tables["reactions"].head(n), plain.tables["reactions"])
    assert_frame_equal(more.identities, plain.identities)
    early = more.tables["reactions"].tail(-n)
    first = plain.tables["deliveries"]["sent_on"].min()
    assert len(early) > 50
    assert (early["reacted_at"] < first).all()
    # the same people: one voter and one profile to a pseudonym
    who = more.tables["reactions"].merge(more.links, on="reaction_id")
    assert who.groupby("person")["voter_id"].nunique(dropna=False).max() == 1
    assert who.groupby("person")["name"].nunique().max() == 1
    assert set(early["person"]) <= set(plain.tables["reactions"]["person"])
