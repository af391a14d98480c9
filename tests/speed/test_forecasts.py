"""How far forecasters are believed on real tests, and how well messages are ranked.

Writes `forecasts.md` beside this file. Nothing is chosen by what is judged: the model
and its declared scale are those of the product; whole families of studies, or whole
issues, are left out and only judge.
"""

import importlib.util
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from hustings.features import minilm
from hustings.features.prior_evidence import prior_evidence
from hustings.features.tables import FORECASTS, PAST_EFFECTS, check
from hustings.training.learners.forecasts import (
    ForecasterSlope,
    MessageEstimates,
    expected_effects,
)
from tests.megastudies import (
    FORECASTERS,
    Megastudy,
    Points,
    as_they_are,
    estimates,
    evidence_for,
    megastudies,
)
from tests.speed.test_message_text import (
    Estimates,
    Material,
    estimated,
    rank_correlation,
    read_material,
)

pytestmark = pytest.mark.speed

COMMAND = "HUSTINGS_DATA=... python -m pytest tests/speed/test_forecasts.py -m speed"
N_PERMUTED, N_FOLDS, N_BOOTSTRAP = 20, 5, 2_000
USUAL = 1.0
Row = tuple[str, ...]


def slopes_of(
    studies: Sequence[Megastudy], *, with_past: bool, points: Points = as_they_are
) -> list[tuple[Megastudy, ForecasterSlope]]:
    """Slopes in every study's own test, perhaps with other families as the past."""
    found = []
    for here in studies:
        past = [s for s in studies if s.family != here.family] * with_past
        evidence = evidence_for(here, past, points=points)
        nothing = np.empty(0, dtype=np.int64)
        rows = expected_effects(
            evidence, [estimates(here)], nothing, usual_effect=USUAL
        ).slopes
        found += [(here, row) for row in rows if row.n_tested]
    return found


def permuted_row(studies: Sequence[Megastudy], *, with_past: bool) -> Row:
    rng = np.random.default_rng(0)
    slopes = [
        row.slope
        for _ in range(3 if with_past else N_PERMUTED)
        for _, row in slopes_of(studies, with_past=with_past, points=rng.permutation)
    ]
    value = np.array([s.value for s in slopes])
    held = np.mean([s.low < 0 < s.high for s in slopes])
    return (
        "the other families too" if with_past else "its own test", f"{len(slopes)}",
        f"{value.mean():.3f}", f"{np.median(np.abs(value)):.3f}", f"{held:.3f}",
    )  # fmt: skip


def ranked(
    studies: Sequence[Megastudy], forecasters: Sequence[str]
) -> dict[str, list[float]]:
    """Rank correlations of studies of which nothing was seen, by family."""
    by_family = defaultdict(list)
    for here in studies:
        if not set(forecasters) & set(here.points):
            continue
        past = [s for s in studies if s.family != here.family]
        evidence = evidence_for(here, past, forecasters=forecasters)
        every = np.arange(len(here.estimate))
        mean = expected_effects(evidence, [], every, usual_effect=USUAL).mean
        by_family[here.family].append(float(spearmanr(mean, here.estimate).statistic))
    return by_family


def family_mean(by_family: dict[str, list[float]]) -> str:
    """Mean over families, each as much, with an interval over families drawn again."""
    each = np.array([np.mean(values) for values in by_family.values()])
    rng = np.random.default_rng(0)
    drawn = rng.choice(each, (N_BOOTSTRAP, len(each))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{each.mean():.2f} ({low:.2f} to {high:.2f})"


def held_out_errors(
    studies: Sequence[Megastudy], forecasters: Sequence[str]
) -> dict[str, list[float]]:
    """Squared errors of messages whose own test is left out, net of noise, by family.

    The others of the study are tested; a fifth of the messages is predicted.
    """
    rng = np.random.default_rng(1)
    errors = defaultdict(list)
    for here in studies:
        past = [s for s in studies if s.family != here.family]
        evidence = evidence_for(here, past, forecasters=forecasters)
        fold = rng.permutation(len(here.estimate)) % N_FOLDS
        for k in range(N_FOLDS):
            rest, out = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            S = here.covariance[np.ix_(rest, rest)]
            test = MessageEstimates(rest, here.estimate[rest], S)
            mean = expected_effects(evidence, [test], out, usual_effect=USUAL).mean
            noise = np.diag(here.covariance)[out]
            errors[here.family] += ((here.estimate[out] - mean) ** 2 - noise).tolist()
    return errors


def less_error(errors: dict[str, list[float]], plain: dict[str, list[float]]) -> str:
    """Mean difference in squared error over families, with its interval."""
    return family_mean(
        {
            family: [float(np.mean(values) - np.mean(plain[family]))]
            for family, values in errors.items()
        }
    )


def issue_ranks(
    material: Material, known: Estimates, *, issue_left_out: bool
) -> dict[str, list[float]]:
    """Rank correlation by issue of messages left out, by texts of the others.

    Texts are centred by issue, so that only differences within an issue are read. A
    whole issue is left out, or a fifth of the messages of every issue.
    """
    ids = list(known.ids)
    blocks = []
    for block in material.messages.of(ids).blocks:
        of_issue = pd.DataFrame(block).groupby(known.issue).transform("mean")
        blocks.append(block - of_issue.to_numpy())
    empty = (
        check(schema, pd.DataFrame({name: [] for name in schema.columns}))
        for schema in (FORECASTS, PAST_EFFECTS)
    )
    evidence = prior_evidence(
        pd.DataFrame({"message_id": ids, "issue": "any", "text": "Text"}), *empty,
        direction=1.0, slope_sd=0.3,
    )  # fmt: skip
    names = np.unique(known.issue)
    fold = np.random.default_rng(0).permutation(len(ids)) % len(names)
    if issue_left_out:
        fold = np.searchsorted(names, known.issue)
    mean = np.zeros(len(ids))
    for k in range(len(names)):
        out = np.flatnonzero(fold == k)
        tests = []
        for name in names:
            rest = np.flatnonzero((known.issue == name) & (fold != k))
            if len(rest):
                S = known.covariance[np.ix_(rest, rest)]
                tests.append(MessageEstimates(rest, known.effect[rest], S))
        mean[out] = expected_effects(
            evidence, tests, out, usual_effect=1.25, text=blocks
        ).mean
    return {
        name: [rank_correlation(mean[at], known.effect[at], known.issue[at])]
        for name in names
        for at in [known.issue == name]
    }


def table(header: Row, rows: Sequence[Row]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def test_forecasters_are_believed_as_far_as_real_tests_say() -> None:
    if importlib.util.find_spec(minilm.PACKAGE) is None:
        pytest.skip("the sentence model is not installed: " + minilm.INSTALL)
    studies = megastudies()
    slopes = [
        (
            here.name, f"{len(here.estimate)}", row.forecaster,
            f"{row.slope.value:.2f} ({row.slope.low:.2f} to {row.slope.high:.2f})",
            f"{spearmanr(here.points[row.forecaster], here.estimate).statistic:.2f}",
        )
        for here, row in slopes_of(studies, with_past=False)
    ]  # fmt: skip
    permuted = [permuted_row(studies, with_past=past) for past in (False, True)]
    ways = [*((name,) for name in FORECASTERS), FORECASTERS]
    by_way = {" and ".join(way): ranked(studies, way) for way in ways}
    plain = held_out_errors(studies, ())
    errors = {" and ".join(way): held_out_errors(studies, way) for way in ways}
    material = read_material()
    known = estimated(material)
    within, across = (
        issue_ranks(material, known, issue_left_out=out) for out in (False, True)
    )
    text = TEXT.format(
        command=COMMAND, n_studies=len(studies),
        n_families=len({s.family for s in studies}),
        slopes=table(("study", "messages", "forecaster", "slope", "rank"), slopes),
        permuted=table(
            ("learnt from", "slopes", "mean", "median size", "intervals with 0"),
            permuted,
        ),
        ranks=table(
            ("forecasts", "families", "rank correlation"),
            [(w, f"{len(of)}", family_mean(of)) for w, of in by_way.items()],
        ),
        errors=table(
            ("forecasts", "squared error, net of noise", "less that of none"),
            [
                ("none: the level of the study", family_mean(plain), ""),
                *((w, family_mean(e), less_error(e, plain)) for w, e in errors.items()),
            ],
        ),
        within=family_mean(within), across=family_mean(across),
    )  # fmt: skip
    (Path(__file__).parent / "forecasts.md").write_text(text)
    assert all(float(row[3]) < 0.1 and float(row[4]) >= 0.95 for row in permuted)
    both = " and ".join(FORECASTERS)
    assert np.mean([np.mean(r) for r in by_way[both].values()]) > 0.25
    assert np.mean([np.mean(e) for e in errors[both].values()]) < np.mean(
        [np.mean(e) for e in plain.values()]
    )
    assert np.mean(list(within.values())) > 0.15


TEXT = """# How far forecasts of messages are believed

{n_studies} outcomes of {n_families} published families of message tests \
(message_megastudies): effects with their covariance, and forecasts of GPT-4 and, for \
some, of experts, made without the data. Effects in SDs of the study's own. `{command}`

Slopes learnt from each study alone (SDs of the effects per SD of the forecasts, 95 % \
interval; prior 0 ± .3), and the plain rank correlation of forecasts and estimates.

{slopes}

The same with every study's forecasts permuted: nothing is to be believed.

{permuted}

A family left out whole: its messages ranked by forecasts that are believed as far as \
the other families say. Spearman correlation with the estimates, whose noise caps it; \
mean over families, interval over families drawn again.

{ranks}

A fifth of a study's messages left out, the others tested, and the other families \
known. The variance of a study's effects is about 1; mean and interval over families.

{errors}

Texts (issue_messages2025, ten issues, 490 messages): messages left out and ranked \
within issue, mean and interval over issues: {within} where others of their issue were \
tested, {across} where the whole issue was left out and texts were centred by issue.

So forecasts and texts rank messages of a study, or an issue, that was never tested \
nearly as well as those of a tested one. What such messages do on average they do not \
tell. The product is more cautious than these figures: a message of an issue never \
tested is `outside`, is expected to do what any message does, and is not planned.
"""
