"""Whole places: near the best, within the same money, whatever is drawn of them."""

import numpy as np
import pandas as pd
import pytest

from hustings.features.arrays import Objects
from hustings.features.training_set import Arm
from hustings.serving.eligible import counted_in_places
from hustings.serving.plan import (
    PlaceOffers,
    PlaceOption,
    Places,
    Plan,
    PlanError,
    PlanSettings,
    by_message,
    choose_options,
    choose_with_places,
    floor,
    limits_of,
    plan_contacts,
)
from hustings.serving.rules import rule_set
from hustings.training.estimators.spend_path import NOTHING, whole_budget_path
from tests.serving.test_plan_limits import ARMS, COST, A, Market

AT = pd.Timestamp("2026-09-08")


def placed(seed: int) -> tuple[Market, Places]:
    rng = np.random.default_rng(seed)
    n, n_places = 60, 6
    place = rng.integers(0, n_places, n)
    limits = limits_of(
        ARMS, COST, budget_usd=12.0, capacity={"mail": 15.0}, total_capacity=None
    )
    value = rng.normal(0.3, 1, (n, A))
    of = Market(value, np.ones((n, A)), limits, rng.random(n))
    people = np.bincount(place, minlength=n_places).astype(float)
    whole = np.column_stack(
        [rng.uniform(-0.2, 0.7, n_places) * people, rng.uniform(0, 0.9, n_places)]
    )
    use = np.zeros((2, n_places, 2))
    use[0] = np.column_stack([0.15 * people, 0.02 * people])
    return of, Places(place, whole, use)


@pytest.mark.parametrize("seed", range(4))
def test_whole_places_are_chosen_nearly_as_well_as_by_trying_all(seed: int) -> None:
    of, places = placed(seed)
    found = choose_with_places(of.value, of.reach, of.limits, places, of.ties)
    best = 0.0
    for code in range(3**6):
        options = np.array([code // 3**p % 3 - 1 for p in range(6)])
        at = np.flatnonzero(options != NOTHING)
        worth = places.value[at, options[at]]
        if (worth <= 0).any():
            continue
        room = of.limits.most - places.use[:, at, options[at]].sum(axis=1)
        if (room < 0).any():
            continue
        free = (options == NOTHING)[places.place]
        own = np.where(free[:, None], of.value, 0.0)
        # the relaxation of the rest: a little more than any whole plan
        path = whole_budget_path(own, COST)
        if worth.sum() + path.value_at(room[0]) <= best:
            continue
        chosen = choose_options(own, of.reach, of.limits.with_most(room), ties=of.ties)
        best = max(best, float(worth.sum()) + chosen.value)
    assert best * 0.97 <= found.chosen.value <= best * (1 + 1e-6)
    assert found.chosen.bound >= best * (1 - 1e-9)
    # who lives in a place that is taken gets nothing of their own
    taken = found.of_place[places.place] != NOTHING
    assert (found.chosen.option[taken] == NOTHING).all()


def test_places_give_way_to_money_and_to_floors() -> None:
    of, places = placed(2)
    # every place is worth having, and there is money for two or three of them
    rich = places._replace(value=np.full_like(places.value, 50.0))
    found = choose_with_places(of.value, of.reach, of.limits, rich, of.ties)
    taken = np.flatnonzero(found.of_place != NOTHING)
    used = rich.use[:, taken, found.of_place[taken]].sum(axis=1)
    used += of.limits.used(found.chosen.option, of.reach)
    assert of.limits.are_kept(used)
    assert len(taken) > 0
    # forty of the sixty must get a letter of their own: most places have to go without
    letters = by_message(ARMS, "schools") + by_message(ARMS, "taxes")
    limits = limits_of(
        ARMS, COST, budget_usd=40.0, capacity={}, total_capacity=None,
        further_limits=[floor("letters", letters, 40.0)],
    )  # fmt: skip
    value = np.abs(of.value) + 0.1
    whole = rich._replace(use=np.zeros((2, 6, 2)))
    found = choose_with_places(value, of.reach, limits, whole, of.ties)
    assert limits.are_kept(limits.used(found.chosen.option, of.reach))
    none = limits_of(
        ARMS, COST, budget_usd=40.0, capacity={}, total_capacity=None,
        further_limits=[floor("letters", letters, 400.0)],
    )  # fmt: skip
    with pytest.raises(PlanError):
        choose_with_places(value, of.reach, none, whole, of.ties)


# --- within a plan --------------------------------------------------------------------

LETTER = Arm("schools", "mail")
N_PLACES, PER_PLACE = 30, 40


def offers(place: Objects, **changed: float) -> PlaceOffers:
    """Posters that do half of what a letter does, in every place."""
    given = {"lift_share": 0.5, "usd_per_place": 10.0, "usd_per_voter": 0.1} | changed
    option = PlaceOption("poster", "schools", 0, **given)  # type: ignore[arg-type]
    return PlaceOffers(place, (option,), np.ones((len(place), 1), dtype=bool))


def planned(
    offered: PlaceOffers, *, budget_usd: float = 300.0, salt: str = "c"
) -> Plan:
    """Places in which letters work, the odd ones, and places in which they do not."""
    rng = np.random.default_rng(3)
    n = N_PLACES * PER_PLACE
    odd = np.repeat(np.arange(N_PLACES) % 2 == 1, PER_PLACE)
    lift = np.where(odd, 1.0, 0.1) + 0.05 * rng.normal(size=n)
    ids = np.array([f"v{i:04}" for i in range(n)], dtype=object)
    terms = PlanSettings(salt, 0.2, 0.05, budget_usd, AT, 5, {"mail": 60.0}, None)
    return plan_contacts(
        ids, ids, lift[:, None], np.ones((n, 1), dtype=bool), [LETTER],
        np.array([0.9]), terms, np.random.default_rng(1), places=offered,
    )  # fmt: skip


def names() -> Objects:
    return np.repeat(
        np.array([f"place {p:02}" for p in range(N_PLACES)], dtype=object), PER_PLACE
    )


def test_places_and_voters_share_one_budget_and_nobody_gets_both() -> None:
    plan = planned(offers(names()))
    taken = plan.places[plan.places["channel"] == "poster"]
    # a poster lifts 20 for 14 USD in an odd place and 2 in an even one; letters to all
    # of an odd place lift 40 for 36 USD, so that some take the poster and some letters
    odd = taken["place"].str[-2:].astype(int) % 2
    assert 5 <= len(taken) < 15
    assert (odd == 1).all()
    assert plan.places_gap < 0.01
    np.testing.assert_allclose(taken["cost_usd"], 10 + 0.1 * PER_PLACE)
    money = taken["cost_usd"].sum() + plan.contacts["cost_usd"].sum()
    assert 0.9 * 300 < money <= 300
    assert plan.used[0] == pytest.approx(money)
    assert plan.limits.most[0] == pytest.approx(300)
    place = pd.Series(names(), index=plan.assignments["voter_id"])
    own = place.loc[plan.contacts["voter_id"]]
    assert not own.isin(taken["place"]).any()
    # what the place is predicted to do is the sum over everybody in it
    assert taken["lift"].to_numpy() == pytest.approx(0.5 * PER_PLACE, rel=0.05)
    there = plan.assignments[place.isin(taken["place"]).to_numpy()]
    assert (there["message_id"] == "control").all()
    assert set(there["role"]) == {"plan", "holdout"}
    assert there.query("role == 'plan'")["propensity"].unique() == pytest.approx([0.8])
    assert there["arm_propensity"].to_numpy() == pytest.approx(1.0)


def test_a_held_out_place_takes_nothing_and_says_what_it_would_have_taken() -> None:
    draws = [planned(offers(names()), salt=f"c{k}").places for k in range(6)]
    held = [set(draw.loc[draw["role"] == "holdout", "place"]) for draw in draws]
    assert np.mean([len(places) for places in held]) == pytest.approx(6, abs=2.5)
    for draw in draws:
        out = draw[draw["role"] == "holdout"]
        assert (out["channel"] == "none").all()
        assert (out["cost_usd"] == 0).all()
        assert out["propensity"].unique() == pytest.approx([0.2])
    # what is meant for a place does not hang on which places are held out
    meant = [tuple(draw["intended_channel"]) for draw in draws]
    assert len(set(meant)) == 1
    assert len({frozenset(places) for places in held}) > 1
    again = planned(offers(names()), salt="c0").places
    pd.testing.assert_frame_equal(again, draws[0])


def test_a_place_of_few_voters_or_of_no_name_takes_nothing() -> None:
    place = names()
    first = np.flatnonzero(place == "place 01")
    place[first[:19]] = "few"
    place[place == "place 03"] = ""
    places = planned(offers(place)).places.set_index("place")
    assert places.loc["few", "n_voters"] == 19
    assert places.loc["few", "intended_channel"] == "none"
    assert places.loc["place 01", "n_voters"] == 21
    assert "" not in places.index
    assert "place 03" not in places.index


def test_dear_places_leave_the_plan_of_voters_as_it_is() -> None:
    dear = planned(offers(names(), usd_per_voter=50.0))
    assert (dear.places["intended_channel"] == "none").all()
    none = planned(PlaceOffers(names(), (), np.ones((N_PLACES * PER_PLACE, 0), bool)))
    pd.testing.assert_frame_equal(dear.contacts, none.contacts)
    pd.testing.assert_frame_equal(dear.assignments, none.assignments)


def test_the_order_of_voters_decides_no_place() -> None:
    rng = np.random.default_rng(8)
    order = rng.permutation(N_PLACES * PER_PLACE)
    offered = offers(names())
    lift = rng.random((len(order), 1))
    ids = np.array([f"v{i:04}" for i in range(len(order))], dtype=object)
    terms = PlanSettings("c", 0.2, 0.05, 300.0, AT, 5, {}, None)

    def plan(rows: np.ndarray) -> pd.DataFrame:
        return plan_contacts(
            ids[rows], ids[rows], lift[rows], np.ones((len(rows), 1), dtype=bool),
            [LETTER], np.array([0.9]), terms, np.random.default_rng(1),
            places=PlaceOffers(
                offered.place[rows], offered.options, offered.counted[rows]
            ),
        ).places  # fmt: skip

    one, two = plan(np.arange(len(order))), plan(order)
    rounded = {"lift": 9}
    pd.testing.assert_frame_equal(one.round(rounded), two.round(rounded))


# --- whose lift counts ----------------------------------------------------------------


def test_only_a_permission_for_a_purpose_keeps_a_lift_out_of_a_place() -> None:
    ids = pd.Series(["agreed", "other_use", "withdrew", "nothing"])
    granted = pd.DataFrame(
        {
            "voter_id": ["agreed", "other_use", "withdrew"], "channel": "poster",
            "basis": "consent", "purpose": ["political_targeting", "newsletter",
                                            "political_targeting"],
            "granted_at": pd.Timestamp("2026-01-01"),
            "withdrawn_at": [pd.NaT, pd.NaT, pd.Timestamp("2026-09-01")],
        }
    )  # fmt: skip

    def counted(rules: str, voted: pd.DataFrame | None = None) -> list[str]:
        mask = counted_in_places(ids, "poster", granted, rule_set(rules), AT, voted)
        return ids[mask].tolist()

    assert counted("us_default") == ids.tolist()
    assert counted("places_only") == ids.tolist()
    assert counted("eu_2024_900") == ["agreed"]
    # a poster adds nothing to a vote that is cast
    voted = pd.DataFrame({"voter_id": ["agreed"]})
    assert counted("us_default", voted) == ids.tolist()[1:]
    assert counted("eu_2024_900", voted) == []
