"""One answer to who is offered what: the plan's, the ledger's and the endpoint's.

The shipped stages make real bundles of the sample campaign; policies under rule sets
are planned, locked, and asked about voter by voter.
"""

import json
import shutil
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from starlette.testclient import TestClient

from hustings.experiments.declaration import load_campaign
from hustings.experiments.plans import approve, lock, plans, send
from hustings.experiments.plans.online import online_so_far
from hustings.experiments.run import run_campaign, run_stage
from hustings.experiments.stages import contacts
from hustings.experiments.stages.context import Run
from hustings.experiments.stages.offers import campaign_offer, decides_by_household
from hustings.experiments.stages.persons import held_voters
from hustings.features.persons.keys import voter_key
from hustings.features.tables import CONTROL, UNDECIDED
from hustings.features.training_set import household
from hustings.serving.bodies import (
    RecommendRequest,
    RequestError,
    ScoreRequest,
    SentRequest,
)
from hustings.serving.contact_lists import NeverContacted
from hustings.serving.decisions import OnlineDecisions
from hustings.serving.endpoint import Endpoint
from hustings.serving.reactions.http import Intake, utc_now
from hustings.serving.service import routes
from hustings.training.learners.baselines import CellLift, CovariateSplit
from hustings.training.policy_value.policies import NAMES
from hustings.training.registry.campaign_model import CampaignModel
from tests.once import once

N_VOTERS = 3_000
NOW = pd.Timestamp("2026-12-01 15:00")
DELIVERING = ("us_default", "eu_2024_900", "places_only")
"""Rule sets under which something may leave."""
POLICIES = tuple(sorted({*NAMES} - {"likely_persuadable"}))
"""What may be planned by what a request says of a voter: support is not among it."""
PLANNED = [
    *product(("personalised", "single_best"), DELIVERING),
    ("personalised", "research_replay"),
    ("nobody", "us_default"),
    ("group_platform", "us_default"),
    ("best_mix", "eu_2024_900"),
    ("one_covariate", "eu_2024_900"),
    ("segment_best", "places_only"),
]
"""The commonest policies under all of them, each of the others under one."""
QUICK = (
    ("personalised", "us_default"), ("single_best", "eu_2024_900"),
    ("segment_best", "places_only"), ("nobody", "us_default"),
)  # fmt: skip
MANY, HOUSEHOLDS = 20_000, 4_000
Json = dict[str, Any]


@dataclass(frozen=True)
class Bundled:
    """A run whose plan is drafted, and the endpoint of its bundle."""

    run: Run
    plan_id: str
    rows: list[Json]
    body: Json

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint.load(self.run.home / "serving")

    @property
    def voters(self) -> pd.DataFrame:
        return self.run.table("voters")

    @property
    def assignments(self) -> pd.DataFrame:
        folder = self.run.home / "plans" / self.plan_id
        return pd.read_parquet(folder / "assignments.parquet")

    def locked(self) -> "Bundled":
        at = pd.Timestamp("2026-11-30", tz="UTC")
        approve(self.run.home, self.plan_id, by="Dana Field", at=at)
        lock(self.run.home, self.plan_id, at=at)
        return self

    def unlimited(self) -> Json:
        """Answers about everybody, were there money and contacts without end."""
        limits = replace(
            self.endpoint.limits, budget_usd=1e9, capacity_by_channel={},
            capacity_per_day=None,
        )  # fmt: skip
        return self._answers(replace(self.endpoint, limits=limits), self.rows, NOW)

    def ask(self, voter_ids: Any = None, at: pd.Timestamp = NOW, **more: Any) -> Json:
        """Answers by voter id, in one request."""
        rows = self.rows
        if voter_ids is not None:
            wanted = set(voter_ids)
            rows = [row for row in rows if row["voter_id"] in wanted]
        return self._answers(self.endpoint, rows, at, **more)

    def _answers(
        self, endpoint: Endpoint, rows: list[Json], at: pd.Timestamp, **more: Any
    ) -> Json:
        """Answers in requests that are not too long, a household in one."""
        home = [row["household_id"] or row["voter_id"] for row in rows]
        part = pd.factorize(pd.Series(home))[0] // HOUSEHOLDS
        told: list[Json] = []
        for k in range(int(part.max()) + 1):
            asked = [row for row, p in zip(rows, part, strict=True) if p == k]
            request = RecommendRequest(**{**self.body, "voters": asked, **more})
            told += endpoint.recommend(request, at=at)["voters"]
        return {voter["voter_id"]: voter for voter in told}


@pytest.fixture(scope="module")
def trained(one_thread: None) -> Run:  # noqa: ARG001 - for its effect
    return trained_on(N_VOTERS, "recommend_sample")


def trained_on(n_voters: int, name: str) -> Run:
    """The sample campaign up to its registered model, whose voters have consented."""
    campaign = load_campaign("sample")
    assert campaign.simulate is not None
    small = campaign.simulate.model_copy(update={"n_voters": n_voters})
    plan = campaign.plan.model_copy(update={"confidence": 0.6})
    campaign = campaign.model_copy(update={"simulate": small, "plan": plan})

    def run_in(home: Path) -> Run:
        return Run(
            campaign, home / "sample", home / "sample" / "first", "first",
            home / "mlflow", n_trials=1, time_limit_s=20, model="linear",
            at=NOW.tz_localize("UTC"),
        )  # fmt: skip

    def make(home: Path) -> None:
        run = run_in(home)
        run_campaign(run)
        consent = {"basis": "consent", "purpose": "political_targeting"}
        permissions = run.table("permissions").assign(**consent)
        run.write("tables/permissions", permissions)
        ids = run.table("voters")["voter_id"]
        day = pd.Timestamp("2026-01-01").as_unit("us")
        listed = pd.DataFrame({"voter_id": ids[::97], "channel": "*", "since": day})
        run.write("tables/do_not_contact", listed)

    return run_in(once(name, make))


def bundled(trained: Run, home: Path, policy: str, rule_set: str) -> Bundled:
    """The plan of a policy under a rule set, drafted in a home of its own."""
    shutil.copytree(
        trained.home, home, ignore=shutil.ignore_patterns("plans", "ledger*", "events*")
    )
    named = trained.campaign.campaign.model_copy(update={"rule_set": rule_set})
    planning = trained.campaign.plan.model_copy(update={"policy": policy})
    campaign = trained.campaign.model_copy(update={"campaign": named, "plan": planning})
    run = replace(trained, campaign=campaign, home=home, folder=home / trained.run_id)
    run_stage(run, "plan")
    raw = pd.read_parquet(home / "raw" / "voters.parquet")
    text = raw.to_json(orient="records", date_format="iso", double_precision=15)
    rows: list[Json] = json.loads(text)
    # what linked people reacted to is in no row: the endpoint looks it up
    assert (run.table("voters").filter(like="reacted__") > 0).any(axis=None)
    permitted, withdrawn = permissions_of(run)
    body = {"permitted_channels": permitted, "withdrawn_channels": withdrawn}
    (plan_id,) = plans(home)
    return Bundled(run, plan_id, rows, body)


def permissions_of(run: Run) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Channels that are permitted and withdrawn by now, by voter."""
    rows = run.table("permissions")
    gone = rows["withdrawn_at"].notna() & (rows["withdrawn_at"] <= NOW)
    by_voter = []
    for part in (rows[~gone], rows[gone]):
        grouped = part.groupby("voter_id", observed=True)["channel"]
        by_voter.append({str(v): sorted(set(c)) for v, c in grouped})
    return by_voter[0], by_voter[1]


def offline(found: Bundled, decided: Any = ()) -> dict[str, tuple[str, str] | None]:
    """The offer of the plan priced at the plan's prices, worked out household by
    household in a loop; None for nothing. Whoever is decided has no say."""
    run = found.run
    model, version = contacts.promoted(run)
    voters, plan = found.voters, json.loads((run.folder / "plan.json").read_text())
    by_household = decides_by_household(run)
    offer, _, _ = campaign_offer(
        run, model, voters, tuple(model.lifts), at=NOW, by_household=by_household,
        model_version=f"{version.name}/{version.version}",
    )  # fmt: skip
    unit = household(voters) if by_household else voters["voter_id"]
    held = held_voters(
        run.home, voters, unit.to_numpy(dtype=object), by_household=by_household,
        salt=plan["salt"], share=plan["holdout_share"],
    )  # fmt: skip
    price = np.array([arm["price"] for arm in plan["audiences"]["all"]["arms"]])
    found_offer: dict[str, tuple[str, str] | None] = {}
    number, ids = pd.Series(np.arange(len(voters))), voters["voter_id"].tolist()
    decided = set(decided)
    for rows in number.groupby(unit.to_numpy()).groups.values():
        free = [i for i in rows if not held[i] and ids[i] not in decided]
        left = np.full(len(price), -np.inf)
        for k in range(len(price)):
            may = [i for i in free if offer.allowed[i, k]]
            value = sum(offer.value[i, k] for i in may)
            if may and value > 0:
                left[k] = value - len(may) * price[k] * (1 - 1e-6)
        best = int(left.argmax())
        for i in rows:
            gets = left[best] >= 0 and i in free and offer.allowed[i, best]
            found_offer[ids[i]] = tuple(offer.arms[best]) if gets else None
    return found_offer


def option(answer: Json) -> tuple[str, str] | None:
    found = answer["recommendation"]
    return None if found is None else (found["message_id"], found["channel"])


def code_of(answer: Json) -> str | None:
    return answer["reason"]["code"] if answer["reason"] else None


@pytest.mark.parametrize(
    ("policy", "rule_set"),
    [*QUICK, *(pytest.param(*pair, marks=pytest.mark.slow)
               for pair in PLANNED if pair not in QUICK)],
)  # fmt: skip
def test_the_endpoint_answers_as_the_plan_and_the_ledger_do(
    trained: Run, tmp_path: Path, policy: str, rule_set: str
) -> None:
    require_agreement(bundled(trained, tmp_path / "sample", policy, rule_set))


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "rule_set"), [*product(POLICIES, DELIVERING)])
def test_they_do_so_for_many_voters(
    one_thread: None,  # noqa: ARG001 - for its effect
    tmp_path: Path,
    policy: str,
    rule_set: str,
) -> None:
    many = trained_on(MANY, "recommend_many")
    require_agreement(bundled(many, tmp_path / "sample", policy, rule_set))


def require_agreement(drafted: Bundled) -> None:
    """Every voter's answer is that of the plan; once it is locked, of the ledger."""
    rule_set = drafted.run.campaign.campaign.rule_set
    policy = drafted.run.campaign.plan.policy
    answers = drafted.ask()
    assert len(answers) == len(drafted.voters)
    if rule_set == "research_replay":
        reasons = {a["reason"]["code"] for a in answers.values()}
        assert reasons == {"research_replay"}
        return
    # nobody is decided by a draft: everybody gets the priced offer
    expected = offline(drafted)
    assert {v: option(a) for v, a in drafted.unlimited().items()} == expected
    # within what money and the day's capacities allow
    paid = sum(
        a["recommendation"]["cost_usd"] for a in answers.values() if a["recommendation"]
    )
    budget = drafted.endpoint.limits.budget_usd
    assert paid <= budget + 1e-6
    is_sending = any(expected.values())
    assert (paid > 50) == is_sending
    assert is_sending or policy in {"nobody", "group_platform"}
    # a locked plan has decided: the ledger's own rows, the draw included
    locked = drafted.locked()
    answers = locked.ask()
    rows = locked.assignments
    decided = rows[rows["block"] != UNDECIDED]
    assert ((decided["message_id"] != CONTROL).sum() > 0) == is_sending
    for row in decided.itertuples():
        answer = answers[row.voter_id]
        if row.message_id == CONTROL:
            assert answer["recommendation"] is None
            told = answer["reason"]
            code = "holdout" if row.role == "holdout" else "drawn_nothing"
            assert told["code"] == code
        else:
            assert option(answer) == (row.message_id, row.channel)
            told = answer["recommendation"]
        assert (told["plan_id"], told["role"]) == (locked.plan_id, row.role)
        assert told["propensity"] == row.propensity
    # others: what is left of the money
    others = set(rows["voter_id"]) - set(decided["voter_id"])
    left = budget - locked.endpoint.decided.present(NOW).committed_usd()  # type: ignore[union-attr]
    paid = sum(
        answers[v]["recommendation"]["cost_usd"]
        for v in others if answers[v]["recommendation"]
    )  # fmt: skip
    assert paid <= left + 1e-6
    answers, expected = locked.unlimited(), offline(locked, decided["voter_id"])
    assert {v: option(answers[v]) for v in others} == {v: expected[v] for v in others}


@pytest.fixture(scope="module")
def locked(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundled:
    home = tmp_path_factory.mktemp("locked") / "sample"
    return bundled(trained, home, "personalised", "us_default").locked()


def copy_of(found: Bundled, home: Path) -> Bundled:
    shutil.copytree(found.run.home, home)
    run = replace(found.run, home=home, folder=home / found.run.run_id)
    return replace(found, run=run)


def sent_voters(found: Bundled, n: int) -> list[str]:
    """Voters whom the plan sends something by mail."""
    rows = found.assignments
    return [str(v) for v in rows.loc[rows["channel"] == "mail", "voter_id"].head(n)]


def hangs_on_reactions(model: CampaignModel) -> CampaignModel:
    """The model with lifts that hang on what a linked voter reacted to."""
    ((name, lift),) = model.lifts.items()
    column = next(c for c in model.reader.joined_columns if c == "reacted__jobs")
    at = model.reader.encoding.names.index(column)
    n = len(lift.nuisances.messages)
    # cell 1 answers "at most"
    split = CovariateSplit(at, 0.1, categorical=False)
    cells = np.array([[1.0] * n, [5.0] * n])
    by_reaction = CellLift(lift.nuisances, split, cells, np.ones((2, n)))
    return replace(model, lifts={name: by_reaction})


def scores_of(endpoint: Endpoint, rows: list[Json]) -> pd.DataFrame:
    """What `/score` answers, one row a voter and message."""
    answer = endpoint.score(ScoreRequest(voters=rows))
    assert not {c for c in answer["missing_columns"] if c.startswith("reacted__")}
    scores = [
        {"voter_id": v["voter_id"], **s} for v in answer["voters"] for s in v["scores"]
    ]
    return pd.DataFrame(scores).set_index(["voter_id", "message_id"])


def test_every_voter_has_the_same_score_online_and_offline(
    locked: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the row of the voter file, linked or not; elsewhere it has to be brought."""
    voters = locked.voters
    endpoint = locked.endpoint
    model = hangs_on_reactions(endpoint.model)
    endpoint = replace(endpoint, model=model)
    offline_scores = model.score(voters).astype(
        {"voter_id": "str", "message_id": "str"}
    )
    expected = offline_scores.set_index(["voter_id", "message_id"])
    linked = voters.loc[voters["reacted__jobs"] > 0.1, "voter_id"]
    assert (expected.loc[linked, "lift"] == 1).all()
    assert 3 < len(linked) < 0.1 * len(voters)
    pd.testing.assert_frame_equal(
        scores_of(endpoint, locked.rows), expected, atol=1e-5, check_index_type=False
    )
    # a row that brings its own is believed
    row = next(r for r in locked.rows if r["voter_id"] == linked.iloc[0])
    moved = scores_of(endpoint, [{**row, "reacted__jobs": 0.0}])
    assert (moved["lift"] == 5).all()
    # away from the campaign's folder nothing is looked up, and nothing guessed
    monkeypatch.setenv("HUSTINGS_VOTER_KEY", voter_key(locked.run.home).hex())
    shutil.copytree(locked.run.home / "serving", tmp_path / "elsewhere")
    away = replace(Endpoint.load(tmp_path / "elsewhere"), model=model)
    with pytest.raises(RequestError) as refused:
        away.score(ScoreRequest(voters=[row]))
    joined = model.reader.joined_columns
    assert {f.path for f in refused.value.faults} == {f"voters[0].{c}" for c in joined}
    of_row = voters.set_index("voter_id").loc[row["voter_id"], joined]
    brought = scores_of(away, [{**row, **of_row.to_dict()}])
    pd.testing.assert_frame_equal(
        brought, expected.loc[[row["voter_id"]]], atol=1e-5, check_index_type=False
    )


def test_what_is_known_of_a_voter_is_read_anew_once_it_changes(
    locked: Bundled, tmp_path: Path
) -> None:
    found = copy_of(locked, tmp_path / "sample")
    voters = found.voters
    linked = voters.loc[voters["reacted__jobs"] > 0.1, "voter_id"].iloc[0]
    row = next(r for r in found.rows if r["voter_id"] == linked)
    endpoint = replace(found.endpoint, model=hangs_on_reactions(found.endpoint.model))
    assert (scores_of(endpoint, [row])["lift"] == 1).all()
    gone = voters.assign(
        reacted__jobs=voters["reacted__jobs"].where(voters["voter_id"] != linked, 0.0)
    )
    found.run.write("tables/voters", gone)
    assert (scores_of(endpoint, [row])["lift"] == 5).all()
    (found.run.folder / "tables/voters.parquet").unlink()
    with pytest.raises(RequestError):
        scores_of(endpoint, [row])


def test_who_had_theirs_is_decided_already_and_gets_nothing_more(
    locked: Bundled, tmp_path: Path
) -> None:
    found = copy_of(locked, tmp_path / "sample")
    had = sent_voters(found, 40)
    before = found.ask(had)
    assert all(answer["recommendation"] for answer in before.values())
    at = NOW.tz_localize("UTC")
    send(found.run.home, found.plan_id, "b1", pd.Series(had[:20]), at=at)
    after = found.ask(had)
    reasons = [after[v]["reason"] for v in had[:20]]
    assert {reason["code"] for reason in reasons} == {"already_decided"}
    assert {reason["plan_id"] for reason in reasons} == {found.plan_id}
    assert all(after[v]["recommendation"] for v in had[20:])


def test_a_stop_or_a_report_of_a_channel_ends_what_the_plan_has_decided(
    locked: Bundled, tmp_path: Path
) -> None:
    found = copy_of(locked, tmp_path / "sample")
    one, other = sent_voters(found, 2)
    folder = found.run.home / "results" / found.plan_id / "f1"
    folder.mkdir(parents=True)
    day = pd.Timestamp("2026-11-01").as_unit("us")
    pd.DataFrame({"voter_id": [one], "channel": ["*"], "since": [day]}).to_parquet(
        folder / "withdrawn.parquet"
    )
    answers = found.ask([one, other], withdrawn_channels={other: ["mail"]})
    codes = {v: a["reason"]["code"] for v, a in answers.items()}
    assert codes == {one: "no_permission", other: "no_permission"}
    assert "asked not to be contacted" in answers[one]["reason"]["text"]
    assert "permission withdrawn" in answers[other]["reason"]["text"]
    assert {a["reason"]["plan_id"] for a in answers.values()} == {found.plan_id}


def test_who_has_voted_is_offered_nothing_until_that_is_taken_back(
    locked: Bundled, tmp_path: Path
) -> None:
    """Every kind of voter at once: of the plan, held out, and free to be offered."""
    found = copy_of(locked, tmp_path / "sample")
    endpoint, rows = found.endpoint, found.assignments.set_index("voter_id")
    endpoint = replace(
        endpoint,
        limits=replace(
            endpoint.limits, budget_usd=1e9, capacity_by_channel={},
            capacity_per_day=None,
        ),
    )  # fmt: skip

    def ask(ids: list[str]) -> Json:
        asked = [row for row in found.rows if row["voter_id"] in set(ids)]
        return found._answers(endpoint, asked, NOW)

    free = rows.index[rows["block"] == UNDECIDED].tolist()
    offered = [v for v, a in ask(free).items() if a["recommendation"]]
    planned, held = sent_voters(found, 4), rows.index[rows["role"] == "holdout"][:2]
    before = ask([*planned, *held, *offered])
    assert all(before[v]["recommendation"] for v in (*planned, *offered))
    (reserved,) = sums_reserved(endpoint)

    client = TestClient(routes)
    routes.state.intake = intake_of(found)

    def report(voter_ids: list[str], status: str, dated: str) -> Json:
        events = [
            {"event_id": f"{v}-{status}-{dated}", "kind": "ballot", "voter_id": v,
             "status": status, "dated": dated}
            for v in voter_ids
        ]  # fmt: skip
        receipt: Json = client.post("/reactions", json={"events": events}).json()
        assert receipt["accepted"] == len(events), receipt
        return receipt

    gone = [*planned[:2], held[0], *offered[:3]]
    report(gone, "returned", "2026-10-19")
    after = ask([*planned, *held, *offered])
    for voter in (*planned[:2], *offered[:3]):
        assert after[voter]["recommendation"] is None
        assert after[voter]["reason"]["code"] == "already_voted"
        assert "has voted already" in after[voter]["reason"]["text"]
    assert after[planned[0]]["reason"]["plan_id"] == found.plan_id
    assert after[held[0]]["reason"]["code"] == "holdout"
    assert option(after[planned[2]]) == option(before[planned[2]])
    # the money of what was open is free: nothing else has come in its place
    spared = sum(before[v]["recommendation"]["cost_usd"] for v in offered[:3])
    (left,) = sums_reserved(endpoint)
    assert left == pytest.approx(reserved - spared)
    # no message gains by it: nobody is offered another, or is worth more
    home_of = {row["voter_id"]: row["household_id"] or row["voter_id"]
               for row in found.rows}  # fmt: skip
    for voter in offered[3:]:
        if home_of[voter] in {home_of[v] for v in gone}:
            continue  # a household decides by those who have not voted
        one, other = (a[voter]["recommendation"] for a in (before, after))
        for name in ("message_id", "channel", "lift", "value", "price"):
            assert one[name] == other[name], voter
    report(planned[:1], "rejected", "2026-10-20")
    back = ask(planned)
    assert option(back[planned[0]]) == option(before[planned[0]])
    assert code_of(back[planned[1]]) == "already_voted"


def test_no_message_is_worth_more_because_fewer_have_voted(
    locked: Bundled, tmp_path: Path
) -> None:
    """A ballot closes its voter's options and moves no value: of whatever message.

    Were anything to hang on returns, a message that keeps people from voting would be
    chosen for the voters that it leaves to be contacted.
    """
    found = copy_of(locked, tmp_path / "sample")
    model, version = contacts.promoted(found.run)
    voters = found.voters

    def offer() -> Any:
        return campaign_offer(
            found.run, model, voters, tuple(model.lifts), at=NOW,
            by_household=decides_by_household(found.run),
            model_version=f"{version.name}/{version.version}",
        )[0]  # fmt: skip

    before = offer()
    # of the voters of one message all have voted, of those of another nobody
    best = np.where(before.allowed, before.value, -np.inf).argmax(axis=1)
    voted = (best == best[0]) & before.allowed.any(axis=1)
    assert 50 < voted.sum() < len(voters)
    events = [
        {"event_id": v, "kind": "ballot", "voter_id": v, "status": "accepted",
         "dated": "2026-10-19"}
        for v in voters["voter_id"][voted]
    ]  # fmt: skip
    intake = intake_of(found)
    assert intake.receive(events, received_at=utc_now()).accepted == len(events)
    after = offer()
    assert (after.value == before.value).all()
    assert (after.lift == before.lift).all()
    assert (after.allowed == (before.allowed & ~voted[:, None])).all()
    # and no plan has them: its report says why
    plans_before = set(plans(found.run.home))
    run_stage(found.run, "plan")
    (name,) = set(plans(found.run.home)) - plans_before
    planned = pd.read_parquet(found.run.home / "plans" / name / "plan.parquet")
    assert len(planned) > 0
    assert not planned["voter_id"].isin(voters["voter_id"][voted]).any()


def intake_of(found: Any) -> Intake:
    """The intake of the bundle, as the endpoint opens it."""
    bundle = found.run.home / "serving"
    never = NeverContacted(bundle / "plan.json", voter_key(found.run.home))
    return Intake.of_bundle(bundle, never.forgotten)


def sums_reserved(endpoint: Endpoint) -> list[float]:
    return endpoint.decisions.turn(lambda turn: [turn.taken().usd], NOW)


def test_a_request_that_names_itself_is_answered_once(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = bundled(trained, tmp_path / "sample", "personalised", "us_default")
    ids = found.voters["voter_id"].head(400)
    first = found.ask(ids, request_id="r1")
    later = NOW + pd.Timedelta(minutes=10)
    assert found.ask(ids, at=later, request_id="r1") == first
    handed = {v: a["recommendation"] for v, a in first.items() if a["recommendation"]}
    assert len(handed) > 50
    names = [found["decision_id"] for found in handed.values()]
    assert len(set(names)) == len(names)
    ends = {pd.Timestamp(found["expires_at"]) for found in handed.values()}
    assert ends == {(NOW + pd.Timedelta(hours=1)).tz_localize("UTC")}
    # without a name the same decision is handed out again, for longer
    again = found.ask(ids, at=later)
    assert [again[v]["recommendation"]["decision_id"] for v in handed] == names
    # over HTTP another request under the same name is refused
    client = TestClient(routes)
    routes.state.endpoint = found.endpoint
    other = {"voters": found.rows[:1], "request_id": "r1"}
    for is_early in (False, True):
        if is_early:
            # both came before either was answered
            unanswered = lambda *_: None  # noqa: E731
            monkeypatch.setattr(OnlineDecisions, "answer_to", unanswered)
        refused = client.post("/recommend", json=other)
        assert refused.status_code == 409
        assert refused.json()["faults"][0]["path"] == "request_id"


def test_reserved_money_is_nobody_elses_until_it_expires_or_is_spent(
    trained: Run, tmp_path: Path
) -> None:
    found = bundled(trained, tmp_path / "sample", "personalised", "us_default")
    ids = found.voters["voter_id"].tolist()
    half, rest = set(ids[: N_VOTERS // 2]), set(ids[N_VOTERS // 2 :])
    loaded = found.endpoint
    endless = replace(loaded.limits, capacity_by_channel={}, capacity_per_day=None)

    def ask(voters: set[str], usd: float, at: pd.Timestamp) -> list[Json]:
        limits = replace(endless, budget_usd=usd)
        rows = [row for row in found.rows if row["voter_id"] in voters]
        request = RecommendRequest(**{**found.body, "voters": rows})
        answer = replace(loaded, limits=limits).recommend(request, at=at)
        voters_told: list[Json] = answer["voters"]
        return voters_told

    def paid(answers: list[Json]) -> float:
        handed = [a["recommendation"] for a in answers if a["recommendation"]]
        return float(sum(decision["cost_usd"] for decision in handed))

    reserved = ask(half, 1e6, NOW)
    spent = paid(reserved)
    assert spent > 50
    tight = ask(rest, spent + 20, NOW)
    assert 19 <= paid(tight) <= 20 + 1e-6
    assert "budget_spent" in {code_of(answer) for answer in tight}
    # what expired is free for others
    ended = NOW + pd.Timedelta(hours=2)
    assert paid(ask(rest, spent + 20, ended)) > 40
    # what was reported as sent is spent for good
    handed = {a["voter_id"]: a["recommendation"] for a in reserved}
    names = [d["decision_id"] for d in handed.values() if d]
    report = loaded.report_sent(SentRequest(decision_ids=names), at=ended)
    assert report == {
        "recorded": len(names), "recorded_before": 0, "expired": len(names)
    }  # fmt: skip
    next_day = ended + pd.Timedelta(days=1)
    assert 19 <= paid(ask(rest, spent + 20, next_day)) <= 20 + 1e-6
    again = {a["voter_id"]: a for a in ask(half, 1e6, next_day)}
    codes = {code_of(again[voter]) for voter, decision in handed.items() if decision}
    assert codes == {"already_decided"}
    recorded = online_so_far(found.run.home).contacts
    assert set(recorded["voter_id"]) == {v for v, d in handed.items() if d}
    assert set(recorded["propensity"]) == {1.0}
    assert recorded["plan_id"].unique().tolist() == ["online-2026-12-01"]
    assert recorded["cost_usd"].sum() == pytest.approx(spent)


def test_what_the_ledger_decided_and_was_sent_here_is_not_recorded_twice(
    locked: Bundled, tmp_path: Path
) -> None:
    found = copy_of(locked, tmp_path / "sample")
    (voter,) = sent_voters(found, 1)
    told = found.ask([voter])[voter]["recommendation"]
    client = TestClient(routes)
    routes.state.endpoint = found.endpoint
    unknown = client.post("/sent", json={"decision_ids": [told["decision_id"], "x"]})
    assert unknown.status_code == 422
    assert unknown.json()["faults"][0]["path"] == "decision_ids[1]"
    assert found.ask([voter])[voter]["recommendation"] is not None
    done = client.post("/sent", json={"decision_ids": [told["decision_id"]]}).json()
    assert done["recorded"] == 1
    assert found.ask([voter])[voter]["reason"]["code"] == "already_decided"
    online = online_so_far(found.run.home)
    assert online.contacts.empty
    assert online.of_plans["voter_id"].tolist() == [voter]


def test_nobody_is_contacted_by_more_than_the_days_capacity(
    trained: Run, tmp_path: Path
) -> None:
    found = bundled(trained, tmp_path / "sample", "personalised", "us_default")
    endpoint = found.endpoint
    few = replace(endpoint.limits, capacity_by_channel={"mail": 30.0})
    request = RecommendRequest(**{**found.body, "voters": found.rows})
    answers = replace(endpoint, limits=few).recommend(request, at=NOW)["voters"]
    gets = [a["recommendation"]["channel"] for a in answers if a["recommendation"]]
    assert gets.count("mail") <= 30
    codes = [code_of(answer) for answer in answers]
    assert "capacity_used" in codes
    # as often as the others the held out would have been offered something: it is kept
    # that they would, handed out to nobody, and takes nothing of the day's contacts
    kept = OnlineDecisions.read(found.run.home / "events.db")
    shadows = kept[kept["role"] == "holdout"]
    n_held = codes.count("holdout")
    held = [a["voter_id"] for a in answers if code_of(a) == "holdout"]
    assert set(shadows["voter_id"]) <= set(held)
    offered = (len(kept) - len(shadows)) / (N_VOTERS - n_held)
    error = np.sqrt(offered * (1 - offered) / n_held)
    assert len(shadows) / n_held == pytest.approx(offered, abs=4 * error)
    assert 0 < len(shadows) < n_held


def test_why_says_what_each_option_is_worth_and_what_the_plan_did(
    locked: Bundled, tmp_path: Path
) -> None:
    found = copy_of(locked, tmp_path / "sample")
    (voter,) = sent_voters(found, 1)
    answer = found.ask([voter], explain=True)[voter]
    told = answer["recommendation"]
    assert answer["why"][0].startswith(f"Plan {found.plan_id} ")
    mine = f"{told['message_id']} by {told['channel']} is worth "
    (line,) = [line for line in answer["why"] if line.startswith(mine)]
    assert line.endswith("this is sent.")
    assert "why" not in found.ask([voter])[voter]


def test_hours_in_which_a_channel_may_be_used_are_told(locked: Bundled) -> None:
    answers = locked.ask()
    hours = {
        a["recommendation"]["channel"]: a["recommendation"]["hours"]
        for a in answers.values() if a["recommendation"]
    }  # fmt: skip
    assert hours["mail"] is None
    called = {channel: told for channel, told in hours.items() if channel != "mail"}
    assert called
    assert set(map(str, called.values())) == {"{'from': '08:00', 'until': '21:00'}"}


def test_a_bundle_outside_its_campaign_says_that_it_knows_no_decisions(
    locked: Bundled, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert locked.endpoint.describe()["decided"] == "by the campaign's plans"
    monkeypatch.setenv("HUSTINGS_VOTER_KEY", voter_key(locked.run.home).hex())
    shutil.copytree(locked.run.home / "serving", tmp_path / "serving")
    assert Endpoint.load(tmp_path / "serving").describe()["decided"] == "unknown here"
