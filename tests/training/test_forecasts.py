"""Effects by tests, forecasts and earlier campaigns together, on planted truth."""

import numpy as np
import pandas as pd
import pytest

from hustings.features.prior_evidence import PriorEvidence, prior_evidence
from hustings.features.tables import FORECASTS, PAST_EFFECTS, check
from hustings.training.estimators.metrics import Z95
from hustings.training.learners.forecasts import MessageEstimates, expected_effects

N_PAST, N_HERE, SE = 12, 10, 0.7


def table(schema, rows):
    frame = pd.DataFrame(rows, columns=list(schema.columns)) if rows else (
        pd.DataFrame({name: [] for name in schema.columns})
    )  # fmt: skip
    return check(schema, frame)


def evidence_of(points, past, *, issues=None, slope_sd=0.3) -> PriorEvidence:
    """Evidence of messages m0, m1 ... by forecasts {name: {message: points}}."""
    issues = issues or {f"m{k}": "jobs" for k in range(N_HERE)}
    messages = pd.DataFrame(
        {"message_id": list(issues), "issue": list(issues.values()), "text": "Text"}
    )
    rows = [
        {"forecaster": name, "message_id": m, "points": p, "se": np.nan}
        for name, of in points.items()
        for m, p in of.items()
    ]
    return prior_evidence(
        messages, table(FORECASTS, rows), table(PAST_EFFECTS, past), direction=1.0,
        slope_sd=slope_sd,
    )  # fmt: skip


def world(rng):
    """Truth as the model has it: slopes N(0, .3²), a past test and one here.

    The usual size of effects is 1 and their SD half-Cauchy, but for its longest tail.
    """
    slope = 0.3 * rng.normal()
    tau = np.tan(rng.uniform(0, np.pi / 2 * 0.98))
    here, old = rng.normal(size=N_HERE), rng.normal(size=N_PAST)
    names = {f"m{k}": z for k, z in enumerate(here)}
    names |= {f"old{k}": z for k, z in enumerate(old)}
    own, alone = np.sqrt(0.75), np.sqrt(0.25)
    slopes = own * slope + alone * 0.3 * rng.normal(size=2)
    level = rng.normal(size=3) @ np.array([[1.0, 1.0], [tau, 0.0], [0.0, tau]])
    effect = level[0] + tau * (slopes[0] * here + rng.normal(size=N_HERE))
    effect_old = level[1] + tau * (slopes[1] * old + rng.normal(size=N_PAST))
    past = [
        {
            "campaign": "old", "message_id": f"old{k}", "issue": "jobs", "text": "",
            "channel": "mail", "audience": "field", "effect": e, "se": SE,
        }
        for k, e in enumerate(effect_old + SE * rng.normal(size=N_PAST))
    ]  # fmt: skip
    return evidence_of({"staff": names}, past), effect, slopes[0]


def test_intervals_of_effects_and_slopes_hold_the_planted_truth() -> None:
    """Five messages were tested, five were not; 100 worlds, so ± 4 points."""
    rng = np.random.default_rng(0)
    holds = {"tested": [], "never sent": [], "slope": []}
    tested, every = np.arange(5), np.arange(N_HERE)
    for _ in range(100):
        evidence, truth, slope = world(rng)
        estimate = truth[tested] + SE * rng.normal(size=5)
        test = MessageEstimates(tested, estimate, SE**2 * np.eye(5))
        found = expected_effects(evidence, [test], every, usual_effect=1.0)
        held = np.abs(found.mean - truth) < Z95 * found.se
        holds["tested"] += held[:5].tolist()
        holds["never sent"] += held[5:].tolist()
        interval = found.slopes[0].slope
        correlation = slope / np.sqrt(1 + slope**2)
        holds["slope"].append(interval.low < correlation < interval.high)
    shares = {name: np.mean(values) for name, values in holds.items()}
    assert all(0.90 < share < 0.99 for share in shares.values()), shares


def test_a_tested_messages_estimate_is_used_once() -> None:
    """Far more noise than signal: a forecast fitted to the noise would repeat it.

    Effects are all 0, the forecaster is right about the noise. The joint posterior of
    the messages must not come nearer to the noise than the noise allows.
    """
    rng = np.random.default_rng(1)
    gained = []
    for _ in range(100):
        estimate = rng.normal(size=N_HERE)
        z = {f"m{k}": p for k, p in enumerate(rng.normal(size=N_HERE))}
        test = MessageEstimates(np.arange(N_HERE), estimate, np.eye(N_HERE))
        found = expected_effects(
            evidence_of({"dice": z}, []), [test], test.message, usual_effect=0.1
        )
        fresh = rng.normal(size=N_HERE)
        gained.append(((fresh - found.mean) ** 2).mean() - (fresh**2).mean())
    # the square of what is believed; the raw estimates would cost 1
    assert np.mean(gained) < 0.2


def test_without_forecasts_it_is_partial_pooling_in_closed_form() -> None:
    """Five effects, noise 1: the mixture lies between no and complete pooling."""
    estimate = np.array([0.0, 2.0, 4.0, 6.0, 8.0])
    test = MessageEstimates(np.arange(5), estimate, np.eye(5))
    found = expected_effects(
        evidence_of({}, []), [test], test.message, usual_effect=3.0
    )
    centred = found.mean - found.mean.mean()
    # by moments: 1 - noise / variance = 0.9
    assert centred[-1] / 4.0 == pytest.approx(0.9, abs=0.04)
    assert (found.se < 1.0).all()
    assert found.slopes == ()


def test_a_permuted_forecaster_is_not_believed() -> None:
    rng = np.random.default_rng(2)
    effect = rng.normal(size=N_HERE)
    test = MessageEstimates(np.arange(N_HERE), effect, 0.04 * np.eye(N_HERE))
    slopes = []
    for _ in range(100):
        points = {f"m{k}": p for k, p in enumerate(rng.permutation(effect))}
        evidence = evidence_of({"dice": points}, [])
        found = expected_effects(evidence, [test], test.message, usual_effect=1.0)
        slopes.append(found.slopes[0].slope)
    assert abs(np.median([s.value for s in slopes])) < 0.05
    assert np.mean([s.low < 0 < s.high for s in slopes]) >= 0.95
    right = {f"m{k}": p for k, p in enumerate(effect)}
    found = expected_effects(
        evidence_of({"oracle": right}, []), [test], test.message, usual_effect=1.0
    )
    assert found.slopes[0].slope.value > 0.4


def test_a_forecast_with_a_large_error_of_its_own_counts_less() -> None:
    points = dict(zip("abcd", [0.0, 1.0, 2.0, 3.0], strict=True))
    rows = [
        {"forecaster": "staff", "message_id": m, "points": p, "se": 0.0}
        for m, p in points.items()
    ]
    rows[3]["se"] = 2.0
    messages = pd.DataFrame({"message_id": list("abcd"), "issue": "jobs", "text": ""})
    found = prior_evidence(
        messages, table(FORECASTS, rows), table(PAST_EFFECTS, []), direction=1.0,
        slope_sd=0.3,
    ).forecasts  # fmt: skip
    assert found.reliability[:3, 0].tolist() == [1.0, 1.0, 1.0]
    # true variance 5/3 - 1, error 4
    assert found.reliability[3, 0] == pytest.approx(2 / 3 / (2 / 3 + 4))
    assert 0 < found.z[3, 0] < found.z[2, 0]


def test_past_effects_of_an_outcome_that_is_better_when_lower_are_turned() -> None:
    messages = pd.DataFrame({"message_id": ["a"], "issue": "jobs", "text": "Text"})
    past = [
        {
            "campaign": "old", "message_id": m, "issue": "jobs", "text": "Text",
            "channel": "mail", "audience": audience, "effect": -2.0, "se": 0.3,
        }
        for m, audience in (("a", "field"), ("old", "field"), ("old", "panel"))
    ]  # fmt: skip
    found = prior_evidence(
        messages, table(FORECASTS, []), table(PAST_EFFECTS, past), direction=-1.0,
        slope_sd=0.3,
    )  # fmt: skip
    assert found.ids == ("a", "old")
    assert found.past.effect.tolist() == [2.0, 2.0, 2.0]
    # the same message here and there; another audience is another test
    assert found.past.message.tolist() == [0, 1, 1]
    assert found.past.test.tolist() == [0, 0, 1]


def test_an_unseen_issue_falls_back_to_the_mean_with_a_wider_interval() -> None:
    issues = {f"m{k}": "jobs" for k in range(9)} | {"m9": "whales"}
    points = {f"m{k}": float(k) for k in range(10)}
    evidence = evidence_of({"staff": points}, [], issues=issues)
    estimate = 1.0 + np.arange(8.0)
    test = MessageEstimates(np.arange(8), estimate, 0.04 * np.eye(8))
    found = expected_effects(evidence, [test], np.array([8, 9]), usual_effect=1.0)
    assert found.outside.tolist() == [False, True]
    assert found.mean[0] > 5.5 > found.mean[1]
    assert found.se[1] > 1.3 * found.se[0]


def test_a_text_far_from_all_tested_ones_is_outside_and_near_ones_are_read() -> None:
    """Effects follow the first feature; the last message's text is elsewhere."""
    rng = np.random.default_rng(3)
    n = 42
    issues = {f"m{k}": "jobs" for k in range(n)}
    text = rng.normal(size=(n, 2))
    text[-2], text[-1] = (2.0, 0.0), (60.0, 0.0)
    evidence = evidence_of({}, [], issues=issues)
    effect = 3.0 * text[:40, 0]
    test = MessageEstimates(np.arange(40), effect, 0.04 * np.eye(40))
    found = expected_effects(
        evidence, [test], np.array([40, 41]), usual_effect=1.0, text=[text]
    )
    assert found.outside.tolist() == [False, True]
    assert found.mean[0] == pytest.approx(6.0, abs=1.5)
    assert abs(found.mean[1]) < 2.0
    assert found.se[1] > 2.0 * found.se[0]


def test_before_any_test_earlier_campaigns_and_forecasts_say_what_to_expect() -> None:
    past = [
        {
            "campaign": "old", "message_id": f"old{k}", "issue": "jobs", "text": "",
            "channel": "mail", "audience": "field", "effect": 2.0 + k / 10, "se": 0.3,
        }
        for k in range(20)
    ]  # fmt: skip
    points = {f"old{k}": float(k) for k in range(20)} | {"m0": -5.0, "m1": 5.0}
    found = expected_effects(
        evidence_of({"staff": points}, past), [], np.array([0, 1, 2]), usual_effect=1.0
    )
    assert found.mean[1] > found.mean[0]
    # the level of another test is its own: 2.9 is drawn to 0
    assert 0.5 < found.mean[2] < 2.9
    assert found.se[2] > 0.5
