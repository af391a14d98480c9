"""Counts reactions as they arrive, message by message and hour by hour.

The cost of a reaction does not grow with what came before, and neither does memory:
hours beyond the windows are dropped, the least recent posts make room for new ones.
Nothing is kept that the store of events cannot make again: a restart counts them anew.

Set apart are reactions from outside the campaign's area, always, and those of new
accounts while they come in a sudden crowd: they are counted, but not in any rate. New
accounts never make a backlash, crowd or not.

A platform's counts come kind by kind: an hour in which any came is judged once
anything of a later hour has been heard, for until then it may have heard the angry ones
only. Hours pass by what comes in, not by a clock: where nothing comes any more, the
last hour of such counts stays unjudged.

Two counts are kept of everything. `Message.hours` is exact and feeds the evidence,
whose only outcome is an alarm or none; `Message.lanes` is what may be shown.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from hustings.features.arrays import Floats, Ints
from hustings.features.reaction import BAD, GOOD, NEUTRAL, VALENCE
from hustings.features.tables import SMALLEST_CELL
from hustings.serving.monitor.disclosure import OTHER, Lane, pour
from hustings.serving.monitor.e_values import discoveries, rise_evidence

BACKLASH, NEW_ACCOUNTS, OUTSIDE_AREA = "backlash", "new_accounts", "outside_area"
ALARMS = (BACKLASH, NEW_ACCOUNTS, OUTSIDE_AREA)
OWN, NEW, CROWD, OUTSIDE = "own", "new", "crowd", "outside"
"""Where a reaction comes from. `NEW` counts as the campaign's own until it is found to
be part of a crowd."""
UNKNOWN = "unknown"
WHOLE = ""
"""The message as a whole, besides its segments."""
MOST_PEOPLE_KNOWN = 5_000
"""Persons of a message and hour who are distinguished; others may count twice."""
_INDEX = {GOOD: 0, BAD: 1, NEUTRAL: 2}
# of an hour: own reactions by valence, those of new accounts by valence, from outside
_N_COUNTS = 7
_FROM_OUTSIDE = 6
_NO_EVIDENCE = (-np.inf, 0)
_NO_SEGMENTS = frozenset({WHOLE, UNKNOWN, OTHER})
_AT_ONCE = 500
"""Series that are judged together: bounds the memory that it takes."""


@dataclass(frozen=True)
class MonitorRules:
    """How reactions are counted and when they alarm.

    Attributes:
        bucket_minutes: Length of what is called an hour here.
        hours: Of the window in which a change may have begun, and of the one before it
            that it is compared with.
        alpha: Chance of a false alarm of one message and kind within any `hours`.
        tolerated: Ratio of the odds of bad news up to which a rise is no news.
        segment_share: Share of false ones among the segments that are named.
        crowd_tolerated: The same ratio for new accounts and for the area.
        new_account_days: Younger accounts are new.
        clustering: Correlation of reactions within an hour that is always assumed.
        max_messages: Messages and posts that are followed besides the declared ones.
        max_segments: Of one message; others count as `other`.
        valence: Kind → good, bad or neutral; other kinds are shown as one.
    """

    bucket_minutes: int = 60
    hours: int = 24
    alpha: float = 0.001
    tolerated: float = 1.25
    segment_share: float = 0.05
    crowd_tolerated: float = 3.0
    new_account_days: float = 30.0
    clustering: float = 0.005
    max_messages: int = 1_000
    max_segments: int = 40
    valence: Mapping[str, str] = field(default_factory=lambda: VALENCE)

    @property
    def hours_kept(self) -> int:
        """Hours that are kept."""
        return 2 * self.hours

    @property
    def patience(self) -> int:
        """Hours that a segment's reactions wait to be shown by themselves."""
        return max(self.hours // 4, 1)


class ReactionEvent:
    """One event as the monitor counts it."""

    __slots__ = ("at", "count", "kind", "origin", "person", "segment", "valence")

    def __init__(
        self, at: int, kind: str, valence: int, count: int, person: str | None,
        segment: str, origin: str,
    ) -> None:  # fmt: skip
        self.at = at
        self.kind = kind
        self.valence = valence
        self.count = count
        self.person = person
        self.segment = segment
        self.origin = origin


_LaneKey = tuple[str, str, str]


class Message:
    """Counts of the reactions to one message.

    Attributes:
        issue: What it speaks of.
        hours: Segment (or `WHOLE`) → hour → exact counts.
        lanes: (segment, kind, origin) → what may be shown.
        shown_by_hour: Hour → good, bad and neutral of whole chunks, by when they became
            whole.
        shown_new: Hour → (segment, kind, valence) → the part of new accounts.
        totals: Origin → good, bad and neutral of whole chunks, of all time.
        crowd: First and last hour of the last crowd of new accounts.
        lumped: The last hour that has counts of several people.
        persons_by_hour: Hour → who said what, so that nobody counts twice in an hour.
        segments: Segments that are counted separately.
        heard: The last hour that anything came in.
        turned: The hour that old ones were last dropped in.
    """

    __slots__ = (
        "crowd", "heard", "hours", "issue", "lanes", "lumped", "persons_by_hour",
        "segments", "shown_by_hour", "shown_new", "totals", "turned",
    )  # fmt: skip

    def __init__(self, issue: str) -> None:
        self.issue = issue
        self.hours: dict[str, dict[int, list[int]]] = {WHOLE: {}}
        self.lanes: dict[_LaneKey, Lane] = {}
        self.shown_by_hour: dict[int, list[int]] = {}
        self.shown_new: dict[int, dict[tuple[str, str, int], int]] = {}
        self.totals = {origin: [0, 0, 0] for origin in (OWN, NEW, CROWD, OUTSIDE)}
        self.crowd: tuple[int, int] | None = None
        self.persons_by_hour: dict[int, set[tuple[str, int]]] = {}
        self.segments: set[str] = set()
        self.heard = 0
        self.lumped = 0
        self.turned = 0

    def take(self, reaction: ReactionEvent, now: int, rules: MonitorRules) -> None:
        """Count a reaction.

        Args:
            reaction: The reaction, its hour included.
            now: The latest hour that anything came in.
            rules: How.
        """
        if now > self.heard:
            self.heard = now
            self.persons_by_hour = {
                h: who for h, who in self.persons_by_hour.items() if h >= now - 1
            }
            if now >= self.turned + rules.patience:
                self._turn(now, rules)
        if reaction.count > 1:
            self.lumped = max(self.lumped, reaction.at)
        segment = self._segment(reaction.segment, rules.max_segments)
        if reaction.at > now - rules.hours_kept and self._first_time(reaction, now):
            self._count(reaction, segment)
        key = (segment, reaction.kind, reaction.origin)
        lane = self.lanes.get(key)
        if lane is None:
            lane = self.lanes[key] = Lane()
        chunk = lane.add(reaction.count, reaction.person, now)
        if chunk:
            self._show(key, reaction.valence, chunk, now)

    def _segment(self, name: str, most: int) -> str:
        if name in self.segments:
            return name
        if len(self.segments) >= most:
            return OTHER
        self.segments.add(name)
        return name

    def _first_time(self, reaction: ReactionEvent, now: int) -> bool:
        """Whether the person did not say the same of the message in this hour yet."""
        if reaction.person is None or reaction.at < now - 1:
            return True
        said_before = self.persons_by_hour.setdefault(reaction.at, set())
        said = (reaction.person, reaction.valence)
        if said in said_before:
            return False
        if len(said_before) < MOST_PEOPLE_KNOWN:
            said_before.add(said)
        return True

    def _count(self, reaction: ReactionEvent, segment: str) -> None:
        index = (
            _FROM_OUTSIDE if reaction.origin == OUTSIDE
            else reaction.valence + (3 if reaction.origin == NEW else 0)
        )  # fmt: skip
        for name in (WHOLE, segment):
            hours = self.hours.setdefault(name, {})
            counts = hours.get(reaction.at)
            if counts is None:
                counts = hours[reaction.at] = [0] * _N_COUNTS
            counts[index] += reaction.count

    def _show(self, key: _LaneKey, valence: int, chunk: int, now: int) -> None:
        segment, kind, origin = key
        self.totals[origin][valence] += chunk
        if origin == OWN:
            self.shown_by_hour.setdefault(now, [0, 0, 0])[valence] += chunk
        elif origin == NEW:
            lanes = self.shown_new.setdefault(now, {})
            part = (segment, kind, valence)
            lanes[part] = lanes.get(part, 0) + chunk

    def _turn(self, now: int, rules: MonitorRules) -> None:
        """Drop old hours and join lanes that stay small, from time to time."""
        self.turned, n_hours = now, rules.hours_kept
        kinds: tuple[dict[int, Any], ...] = (self.shown_by_hour, self.shown_new)
        for hours in (*self.hours.values(), *kinds):
            for old in [hour for hour in hours if hour <= now - n_hours]:
                del hours[old]
        for name in [n for n, hours in self.hours.items() if n and not hours]:
            del self.hours[name]
        small: dict[tuple[str, str], list[Lane]] = {}
        for (segment, kind, origin), lane in self.lanes.items():
            if segment != OTHER and lane.waiting and lane.since <= now - rules.patience:
                small.setdefault((kind, origin), []).append(lane)
        for (kind, origin), lanes in small.items():
            together = self.lanes.setdefault((OTHER, kind, origin), Lane())
            chunk = pour(lanes, together)
            if chunk:
                index = _INDEX[rules.valence.get(kind, NEUTRAL)]
                self._show((OTHER, kind, origin), index, chunk, now)

    def set_apart(self, first: int, last: int) -> None:
        """New accounts of these hours are a crowd: whole chunks leave the rates."""
        last_crowd = self.crowd
        if last_crowd is not None and last_crowd[1] >= first - 1:
            first, last = min(first, last_crowd[0]), max(last, last_crowd[1])
        self.crowd = (first, last)
        for hour in [h for h in self.shown_new if first <= h <= last]:
            for (segment, kind, valence), chunk in self.shown_new.pop(hour).items():
                self.totals[NEW][valence] -= chunk
                self.totals[CROWD][valence] += chunk
                self.lanes[segment, kind, NEW].n_shown -= chunk
                apart = self.lanes.setdefault((segment, kind, CROWD), Lane())
                apart.n_shown += chunk


@dataclass(frozen=True)
class Alarm:
    """An alarm that a message's reactions raised.

    Attributes:
        message_id: The message.
        kind: One of `ALARMS`.
        since: The hour in which it most likely began.
        raised: The hour in which it was raised.
        of_whole_message: Whether it holds for the message as a whole.
        segments: Those for which it holds.
        last: The last hour in which the evidence was strong enough.
    """

    message_id: str
    kind: str
    since: int
    raised: int
    of_whole_message: bool
    segments: tuple[str, ...]
    last: int


class Monitor:
    """Every message's counts, and what they alarm of.

    Args:
        rules: How reactions are counted and judged.
        issue_of: Messages of the campaign with their issues: never dropped.
    """

    def __init__(
        self, rules: MonitorRules, issue_of: Mapping[str, str] | None = None
    ) -> None:
        self.rules = rules
        self.declared = dict(issue_of or {})
        self.messages: dict[str, Message] = {
            name: Message(issue) for name, issue in self.declared.items()
        }
        self.closed: dict[str, dict[str, Lane]] = {}
        self.alarms: dict[tuple[str, str], Alarm] = {}
        self.now = 0
        self._touched: set[str] = set()
        self._known_e: dict[str, dict[str, tuple[float, int]]] = {}
        self._judged_at = 0

    # --- counting ---

    def add(self, events: pd.DataFrame) -> None:
        """Take events in, in the order of the store.

        Args:
            events: As `serving.reactions.store.Events.since` gives them.
        """
        for message_id, issue, reaction in self._read(events):
            message = self._message(message_id, issue)
            message.take(reaction, self.now, self.rules)
            self._touched.add(message_id)

    def _read(self, events: pd.DataFrame) -> Iterable[tuple[str, str, ReactionEvent]]:
        rules = self.rules
        occurred, received = (
            _hours(events[name], rules.bucket_minutes)
            for name in ("occurred_at", "received_at")
        )
        # what claims to come from the future came when it was received
        at = np.minimum(occurred, received).tolist()
        kinds = events["kind"].str.lower().tolist()
        columns = zip(
            at, kinds, events["count"].tolist(), _or_none(events, "person"),
            _segments(events), _origins(events, rules.new_account_days),
            _or_none(events, "message_id"), _or_none(events, "post_id"),
            _or_none(events, "issue"), strict=True,
        )  # fmt: skip
        for hour, kind, count, person, segment, origin, message, post, issue in columns:
            self.now = max(self.now, hour)
            counted_kind = kind if kind in rules.valence else OTHER
            valence = _INDEX[rules.valence.get(kind, NEUTRAL)]
            reaction = ReactionEvent(
                hour, counted_kind, valence, int(count), person, segment, origin
            )
            yield message or post or UNKNOWN, issue or UNKNOWN, reaction

    def _message(self, message_id: str, issue: str) -> Message:
        message = self.messages.pop(message_id, None)
        if message is None:
            self._make_room()
            message = Message(issue)
        elif message.issue == UNKNOWN:
            message.issue = issue
        # the most recent stands last
        self.messages[message_id] = message
        return message

    def _make_room(self) -> None:
        """Close the least recent post; what was shown of it stays with its issue."""
        if len(self.messages) < self.rules.max_messages + len(self.declared):
            return
        oldest = next(name for name in self.messages if name not in self.declared)
        message = self.messages.pop(oldest)
        self._touched.discard(oldest)
        self._known_e.pop(oldest, None)
        kinds = self.closed.setdefault(message.issue, {})
        for (_, kind, origin), lane in message.lanes.items():
            if origin in (OWN, NEW):
                together = kinds.setdefault(kind, Lane())
                together.n_shown += lane.n_shown
                pour([lane], together)
        self.alarms = {key: a for key, a in self.alarms.items() if key[0] != oldest}

    @property
    def shown_until(self) -> int:
        """The last hour of which anything is shown: no single reaction moves it."""
        latest_hours = [
            max((*message.shown_by_hour, *message.shown_new), default=0)
            for message in self.messages.values()
        ]
        return max(latest_hours, default=0)

    # --- judging ---

    def judge(self) -> list[Alarm]:
        """Look at what came since the last look; see `serving.monitor.e_values`.

        Looking often does not cry wolf.

        Returns:
            The alarms that are new, and those of some segments that now hold for the
            message as a whole.
        """
        if self.now > self._judged_at:
            self._touched.update(self.messages)
        names = sorted(name for name in self._touched if name in self.messages)
        before = {key: alarm.of_whole_message for key, alarm in self.alarms.items()}
        self._judge_crowds(names)
        self._judge_backlash(names)
        self._touched, self._judged_at = set(), self.now
        self._close_old()
        # where there was none, even one of segments alone is new
        return [
            alarm
            for key, alarm in self.alarms.items()
            if key not in before or alarm.of_whole_message > before[key]
        ]

    def _judge_crowds(self, names: Sequence[str]) -> None:
        series = self._heard([(name, WHOLE) for name in names], 3, 4, 5, _FROM_OUTSIDE)
        counts, names = self._counts(series), [name for name, _ in series]
        from_area = counts[..., :_FROM_OUTSIDE].sum(axis=-1)
        new, outside = counts[..., 3:6].sum(axis=-1), counts[..., _FROM_OUTSIDE]
        for kind, k, n in (
            (NEW_ACCOUNTS, new, from_area),
            (OUTSIDE_AREA, outside, from_area + outside),
        ):
            log_e, start = self._evidence(k, n, self.rules.crowd_tolerated)
            loud = np.flatnonzero(log_e >= -np.log(self.rules.alpha))
            for i in map(int, loud):
                since = self._hour(int(start[i]))
                if kind == NEW_ACCOUNTS:
                    self.messages[names[i]].set_apart(since, self.now)
                self._raise(names[i], kind, since, for_message=True, segments=())

    def _judge_backlash(self, names: Sequence[str]) -> None:
        # new accounts alone may be a crowd: they never make a backlash
        series = self._heard([(m, s) for m in names for s in self.messages[m].hours], 1)
        good, bad = np.moveaxis(self._counts(series), -1, 0)[:2]
        log_e, start = self._evidence(bad, good + bad, self.rules.tolerated)
        for name in names:
            self._known_e.pop(name, None)
        for (name, segment), e, at in zip(series, log_e, start, strict=True):
            if e > -np.inf:
                evidence = self._known_e.setdefault(name, {})
                evidence[segment] = (float(e), self._hour(int(at)))
        segments_of = self._named_segments()
        for name, evidence in self._known_e.items():
            message_loud = evidence.get(WHOLE, _NO_EVIDENCE)[0] >= -np.log(
                self.rules.alpha
            )
            segments, loud = segments_of.get(name, ([], False))
            if message_loud or loud:
                since = min(evidence[s][1] for s in segments or [WHOLE])
                self._raise(
                    name,
                    BACKLASH,
                    since,
                    for_message=bool(message_loud),
                    segments=tuple(segments),
                )

    def _named_segments(self) -> dict[str, tuple[list[str], bool]]:
        """Segments to name by message, and whether one is enough evidence alone.

        Those that e-BH picks out at level alpha alarm: where nothing has changed, that
        asks the average of all segments' E to reach 1/α, and the average is an
        e-process. Those of an alarm are named at the wider `segment_share`.
        """
        cells = [
            (name, segment, e)
            for name, evidence in self._known_e.items()
            for segment, (e, _) in evidence.items()
            if segment not in _NO_SEGMENTS
        ]
        n_all = sum(len(m.hours.keys() - _NO_SEGMENTS) for m in self.messages.values())
        log_e = np.array([e for _, _, e in cells])
        loud, listed = (
            discoveries(log_e, share=share, n_all=n_all)
            for share in (self.rules.alpha, self.rules.segment_share)
        )
        by_message: dict[str, tuple[list[str], bool]] = {}
        for i in np.flatnonzero(listed | loud):
            segments, is_loud = by_message.get(cells[i][0], ([], False))
            by_message[cells[i][0]] = (
                [*segments, cells[i][1]],
                bool(is_loud or loud[i]),
            )
        return by_message

    def _heard(
        self, series: Sequence[tuple[str, str]], *indices: int
    ) -> list[tuple[str, str]]:
        """Series in which enough people react in one of some ways to be shown."""
        first = self._hour(self.rules.hours)
        return [
            (name, segment)
            for name, segment in series
            if sum(
                counts[i]
                for hour, counts in self.messages[name].hours[segment].items()
                if hour >= first
                for i in indices
            )
            >= SMALLEST_CELL
        ]

    def _counts(self, series: Sequence[tuple[str, str]]) -> Floats:
        """Exact counts, shape (n_series, hours kept, 7), the last hour being now."""
        by_hour = np.zeros((len(series), self.rules.hours_kept, _N_COUNTS))
        first = self._hour(0)
        for row, (name, segment) in enumerate(series):
            lumped = self.messages[name].lumped
            open_hour = lumped if lumped == self.now else None
            for hour, counts in self.messages[name].hours[segment].items():
                if hour >= first and hour != open_hour:
                    by_hour[row, hour - first] = counts
        return by_hour

    def _hour(self, index: int) -> int:
        return self.now - self.rules.hours_kept + 1 + index

    def _evidence(self, k: Floats, n: Floats, tolerated: float) -> tuple[Floats, Ints]:
        """Evidence of every series; none where too few people react to be shown."""
        rules = self.rules
        log_e = np.full(len(k), -np.inf)
        start = np.zeros(len(k), dtype=np.int64)
        large_enough = np.flatnonzero(k[:, -rules.hours :].sum(axis=1) >= SMALLEST_CELL)
        for i in range(0, len(large_enough), _AT_ONCE):
            block = large_enough[i : i + _AT_ONCE]
            log_e[block], start[block] = rise_evidence(
                k[block], n[block], n_live=rules.hours, tolerated=tolerated,
                least_clustering=rules.clustering,
            )  # fmt: skip
        return log_e, start

    def _raise(
        self,
        name: str,
        kind: str,
        since: int,
        *,
        for_message: bool,
        segments: tuple[str, ...],
    ) -> None:
        """Open an alarm or keep it open, as far as what is shown bears it out."""
        message = self.messages[name]
        if self._shown_of(message, kind, since) < SMALLEST_CELL:
            return
        open_alarm = self.alarms.get((name, kind))
        large = [s for s in segments if self._shown_in(message, s) >= SMALLEST_CELL]
        if open_alarm is not None:
            since, for_message = (
                min(since, open_alarm.since),
                for_message or open_alarm.of_whole_message,
            )
            large = sorted({*large, *open_alarm.segments})
        if not for_message and not large:
            return
        raised = open_alarm.raised if open_alarm is not None else self.now
        self.alarms[name, kind] = Alarm(
            name, kind, since, raised, for_message, tuple(large), self.now
        )

    def _shown_of(self, message: Message, kind: str, since: int) -> int:
        if kind == BACKLASH:
            return sum(
                c[1] for hour, c in message.shown_by_hour.items() if hour >= since
            )
        return sum(message.totals[CROWD if kind == NEW_ACCOUNTS else OUTSIDE])

    def _shown_in(self, message: Message, segment: str) -> int:
        return sum(
            lane.n_shown
            for (name, kind, origin), lane in message.lanes.items()
            if name == segment
            and origin in (OWN, NEW)
            and self.rules.valence.get(kind) == BAD
        )

    def _close_old(self) -> None:
        quiet = self.now - self.rules.hours
        self.alarms = {key: a for key, a in self.alarms.items() if a.last > quiet}


def _hours(times: pd.Series, minutes: int) -> Ints:
    utc = pd.to_datetime(times, utc=True).dt.as_unit("s")
    return np.asarray(utc.astype("int64") // (60 * minutes), dtype=np.int64)


def hour_start(hour: int, rules: MonitorRules) -> pd.Timestamp:
    """When an hour began."""
    return pd.Timestamp(hour * rules.bucket_minutes * 60, unit="s", tz="UTC")


def _or_none(events: pd.DataFrame, name: str) -> list[str | None]:
    if name not in events:
        return [None] * len(events)
    column = events[name].astype(object)
    values: list[str | None] = column.where(column.notna(), None).tolist()
    return values


def _segments(events: pd.DataFrame) -> list[str]:
    """The segment, else age band and sex as far as they are known."""
    parts = zip(
        *(_or_none(events, name) for name in ("segment", "age_band", "sex")),
        strict=True,
    )
    return [
        segment or " · ".join(part for part in (age, sex) if part) or UNKNOWN
        for segment, age, sex in parts
    ]


def _origins(events: pd.DataFrame, new_account_days: float) -> list[str]:
    area = _or_none(events, "in_area")
    age = _or_none(events, "account_age_days")
    return [
        OUTSIDE if inside is not None and not inside
        else NEW if days is not None and float(days) < new_account_days
        else OWN
        for inside, days in zip(area, age, strict=True)
    ]  # fmt: skip
