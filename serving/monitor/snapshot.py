"""The monitor's view for staff, computed from disclosable counts.

Rates, intervals and changes are computed from the shown counts alone, so they disclose
no more than those. The exact counts disclose only that there is an alarm, the hours in
which it began and was raised, and the segments that it holds for, where enough of them
is shown. The view holds neither the size of the evidence nor the time of a single
reaction.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hustings.features.arrays import Floats, Objects
from hustings.features.reaction import NEUTRAL, VALENCES
from hustings.features.tables import SMALLEST_CELL
from hustings.serving.monitor.e_values import clustering, effective
from hustings.serving.monitor.received import well_received
from hustings.serving.monitor.stream import (
    BACKLASH,
    CROWD,
    NEW,
    NEW_ACCOUNTS,
    OUTSIDE,
    OUTSIDE_AREA,
    OWN,
    Alarm,
    Message,
    Monitor,
    hour_start,
)

Json = dict[str, Any]

MOST_MESSAGES = 200
"""Messages that are listed: those with an alarm or a pause, then the most recent."""
MOST_SEGMENTS = 40
COMPARABLE = 10 * SMALLEST_CELL
"""People on each side of a comparison. Reactions are shown chunk by chunk, each of one
kind: of a few chunks, the share says which became whole first."""


def snapshot(
    monitor: Monitor,
    *,
    paused: Mapping[str, Mapping[str, str]],
    sent: Mapping[str, Any],
    planned: Mapping[str, Any],
    lifts: Mapping[str, Mapping[str, float]],
) -> Json:
    """The monitor as JSON.

    Args:
        monitor: The counts and alarms.
        paused: Message → when, by whom and why it was paused.
        sent: Message → voters who have been sent it, as far as may be shown.
        planned: Message → voters planned to be sent it who have not been yet.
        lifts: Message → `lift`, `low` and `high` of the latest randomised evaluation.

    Returns:
        `smallest`, `heard_until`, `alarms`, `messages`, `issues` and `rules`.
    """
    shown_counts = {name: _counts(m) for name, m in monitor.messages.items()}
    until = monitor.shown_until
    names = _listed(monitor, shown_counts, paused)
    series = {name: _series(monitor, monitor.messages[name], until) for name in names}
    rates = _rates(monitor, names, shown_counts, series)
    segments = _segments(monitor, names)
    messages = [
        {
            **_message(monitor, name, shown_counts[name], series[name]),
            "rate": rates[i],
            "segments": segments[name],
            "paused": dict(paused[name]) if name in paused else None,
        }
        for i, name in enumerate(names)
    ]
    alarms = [
        _alarm(monitor, alarm, lifts.get(alarm.message_id))
        | {"sent": sent.get(alarm.message_id)}
        | {"planned": planned.get(alarm.message_id)}
        for alarm in sorted(monitor.alarms.values(), key=lambda a: (-a.raised, a.kind))
    ]
    unheard = [
        {"message_id": name, **why} for name, why in paused.items() if name not in names
    ]
    return {
        "smallest": SMALLEST_CELL,
        "hour_minutes": monitor.rules.bucket_minutes,
        "heard_until": hour_start(until, monitor.rules).isoformat() if until else None,
        "alarms": alarms,
        "messages": messages,
        "paused_unheard": unheard,
        "issues": _issues(monitor, shown_counts),
        "rules": {
            "alpha": monitor.rules.alpha,
            "hours": monitor.rules.hours,
            "tolerated": monitor.rules.tolerated,
        },
    }


def _counts(message: Message) -> dict[str, int]:
    """Shown counts by valence, and what is set apart."""
    totals = message.totals
    in_rates = [sum(pair) for pair in zip(totals[OWN], totals[NEW], strict=True)]
    return {
        **dict(zip(VALENCES, in_rates, strict=True)),
        "outside_area": sum(totals[OUTSIDE]),
        "new_accounts": sum(totals[CROWD]),
    }


def _listed(
    monitor: Monitor,
    shown_counts: Mapping[str, Mapping[str, int]],
    paused: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """Messages to list; one that nothing is shown of is not.

    In the order of what is shown: the order in which they were heard of would tell of
    single reactions.
    """
    loud = {name for name, _ in monitor.alarms}
    newest = {n: max(m.shown_by_hour, default=0) for n, m in monitor.messages.items()}
    heard = sorted(
        (name for name, counts in shown_counts.items() if any(counts.values())),
        key=lambda name: (-newest[name], -sum(shown_counts[name].values()), name),
    )
    first = [name for name in heard if name in loud or name in paused]
    return list(dict.fromkeys([*first, *heard]))[:MOST_MESSAGES]


def _series(monitor: Monitor, message: Message, until: int) -> Floats:
    """Good, bad and neutral by hour up to one, shape (hours kept, 3)."""
    first = until - monitor.rules.hours_kept + 1
    by_hour = np.zeros((monitor.rules.hours_kept, 3))
    for hour, counts in message.shown_by_hour.items():
        if hour >= first:
            by_hour[hour - first] += counts
    for hour, lanes in message.shown_new.items():
        if hour < first:
            continue
        for (_, _, valence), chunk in lanes.items():
            by_hour[hour - first, valence] += chunk
    return by_hour


def _rates(
    monitor: Monitor,
    names: list[str],
    shown_counts: Mapping[str, Mapping[str, int]],
    series: Mapping[str, Floats],
) -> list[Json | None]:
    good, bad = (
        np.array([shown_counts[n][v] for n in names], dtype=float) for v in VALENCES[:2]
    )
    weight = np.array([_weight(series[n], monitor.rules.clustering) for n in names])
    issue = np.array([monitor.messages[n].issue for n in names], dtype=object)
    return _rounded(good, bad, weight, issue)


def _rounded(
    good: Floats, bad: Floats, weight: Floats, group: Objects
) -> list[Json | None]:
    """Rates with intervals; none where neither good nor bad is shown."""
    if not len(good):
        return []
    posteriors = well_received(good * weight, bad * weight, group).to_dict("records")
    return [
        {str(name): round(float(value), 4) for name, value in row.items()}
        if n
        else None
        for row, n in zip(posteriors, good + bad, strict=True)
    ]


def _weight(series: Floats, least: float) -> float:
    """Share of the reactions that counts, because those of an hour cluster."""
    bad, n = series[:, 1], series[:, 0] + series[:, 1]
    if not n.sum():
        return 1.0
    rho = clustering(bad, n, least=least)
    return float((n * effective(n, rho)).sum() / n.sum())


def _message(
    monitor: Monitor, name: str, shown_counts: Mapping[str, int], series: Floats
) -> Json:
    message = monitor.messages[name]
    everything = sum(shown_counts.values())
    apart = shown_counts["outside_area"] + shown_counts["new_accounts"]
    return {
        "message_id": name,
        "issue": message.issue,
        "declared": name in monitor.declared,
        **shown_counts,
        "kinds": _kinds(message),
        "change": _change(series, monitor.rules.hours),
        "apart_share": round(apart / everything, 4) if everything else 0.0,
        "series": series[:, :2].astype(int).tolist(),
    }


def _kinds(message: Message) -> dict[str, int]:
    by_kind: dict[str, int] = {}
    for (_, kind, origin), lane in message.lanes.items():
        if origin in (OWN, NEW) and lane.n_shown:
            by_kind[kind] = by_kind.get(kind, 0) + lane.n_shown
    return dict(sorted(by_kind.items(), key=lambda item: (-item[1], item[0])))


def _segments(monitor: Monitor, names: list[str]) -> dict[str, list[Json]]:
    """Counts and rates of each message's largest segments, pooled towards it."""
    rows = [
        (name, segment, counts)
        for name in names
        for segment, counts in _largest(monitor, monitor.messages[name])
    ]
    good, bad = (
        np.array([c[v] for _, _, c in rows], dtype=float) for v in VALENCES[:2]
    )
    weight = effective(
        (good + bad) / monitor.rules.hours_kept, monitor.rules.clustering
    )
    owner = np.array([name for name, _, _ in rows], dtype=object)
    rates = _rounded(good, bad, weight, owner)
    by_message: dict[str, list[Json]] = {name: [] for name in names}
    for (name, segment, counts), rate in zip(rows, rates, strict=True):
        by_message[name].append({"segment": segment, **counts, "rate": rate})
    return by_message


def _largest(monitor: Monitor, message: Message) -> list[tuple[str, dict[str, int]]]:
    by_segment: dict[str, dict[str, int]] = {}
    for (segment, kind, origin), lane in message.lanes.items():
        if origin in (OWN, NEW) and lane.n_shown:
            valence = monitor.rules.valence.get(kind, NEUTRAL)
            counts = by_segment.setdefault(segment, dict.fromkeys(VALENCES, 0))
            counts[valence] += lane.n_shown
    largest = sorted(
        by_segment.items(), key=lambda item: (-sum(item[1].values()), item[0])
    )
    return largest[:MOST_SEGMENTS]


def _change(series: Floats, hours: int) -> Json | None:
    """Share of good news in the last quarter of the window against what came before.

    None where either is of too few to be compared.
    """
    n_now = max(hours // 4, 1)
    now = series[-n_now:, :2].sum(axis=0)
    before = series[-n_now - hours : -n_now, :2].sum(axis=0)
    if min(now.sum(), before.sum()) < COMPARABLE:
        return None
    shares = [float(counts[0] / counts.sum()) for counts in (now, before)]
    return {
        "hours": n_now,
        "now": round(shares[0], 4),
        "before": round(shares[1], 4),
        "points": round(100 * (shares[0] - shares[1]), 1),
    }


def _issues(
    monitor: Monitor, shown_counts: Mapping[str, Mapping[str, int]]
) -> list[Json]:
    totals = {issue: [0, 0, 0] for issue in monitor.closed}
    for issue, kinds in monitor.closed.items():
        for kind, lane in kinds.items():
            valence = monitor.rules.valence.get(kind, NEUTRAL)
            totals[issue][VALENCES.index(valence)] += lane.n_shown
    for name, counts in shown_counts.items():
        issue_total = totals.setdefault(monitor.messages[name].issue, [0, 0, 0])
        for i, valence in enumerate(VALENCES):
            issue_total[i] += counts[valence]
    heard = {issue: counts for issue, counts in totals.items() if sum(counts)}
    names = sorted(heard, key=lambda issue: (-sum(heard[issue]), issue))
    good, bad = (np.array([heard[n][i] for n in names], dtype=float) for i in (0, 1))
    weight = effective(
        (good + bad) / monitor.rules.hours_kept, monitor.rules.clustering
    )
    rates = _rounded(good, bad, weight, np.array(["all"] * len(names), dtype=object))
    return [
        {"issue": n, **dict(zip(VALENCES, heard[n], strict=True)), "rate": rate}
        for n, rate in zip(names, rates, strict=True)
    ]


# --- alarms ---------------------------------------------------------------------------


def _alarm(monitor: Monitor, alarm: Alarm, lift: Mapping[str, float] | None) -> Json:
    message = monitor.messages[alarm.message_id]
    text = _TEXTS[alarm.kind](monitor, message, alarm)
    contradicts = (
        f"The randomised test says otherwise: its lift of {lift['lift']:+.3g} "
        f"({lift['low']:+.3g} to {lift['high']:+.3g}) lies above zero; who reacts by "
        "themselves is not who was drawn."
        if alarm.kind == BACKLASH and lift is not None and lift["low"] > 0
        else None
    )
    return {
        "message_id": alarm.message_id,
        "issue": message.issue,
        "kind": alarm.kind,
        "since": hour_start(alarm.since, monitor.rules).isoformat(),
        "raised": hour_start(alarm.raised, monitor.rules).isoformat(),
        "whole": alarm.of_whole_message,
        "segments": list(alarm.segments),
        "text": text,
        "contradicts_lift": contradicts,
    }


def _backlash_text(monitor: Monitor, message: Message, alarm: Alarm) -> str:
    until = monitor.shown_until
    series = _series(monitor, message, until)
    at = max(alarm.since - (until - monitor.rules.hours_kept + 1), 0)
    now, before = series[at:, :2].sum(axis=0), series[:at, :2].sum(axis=0)
    where = "" if alarm.of_whole_message else f"among {', '.join(alarm.segments)}, "
    sentence = f"{where}bad news has risen"
    if min(now.sum(), before.sum()) >= COMPARABLE:
        sentence = (
            f"{where}bad news is {_share(now[1], now.sum())} of what is heard since "
            f"then, after {_share(before[1], before.sum())} in the hours before"
        )
    return f"{sentence[0].upper()}{sentence[1:]}."


def _crowd_text(_monitor: Monitor, message: Message, _alarm: Alarm) -> str:
    n = sum(message.totals[CROWD])
    return (
        f"A sudden crowd of new accounts: {n:,} reactions are set apart and count in "
        "no rate."
    )


def _outside_text(_monitor: Monitor, message: Message, _alarm: Alarm) -> str:
    n = sum(message.totals[OUTSIDE])
    return (
        f"A sudden rise of reactions from outside the area: {n:,} are set apart and "
        "count in no rate."
    )


_TEXTS = {
    BACKLASH: _backlash_text,
    NEW_ACCOUNTS: _crowd_text,
    OUTSIDE_AREA: _outside_text,
}


def _share(part: float, total: float) -> str:
    return f"{100 * part / total:.0f} %"
