"""A platform's export of posts and reactions → counts by post, kind and time.

An export is long (a column of kinds and one of counts) or wide (a column for each
kind), a text file, a workbook, Parquet or JSON of an API. Columns are recognised by the
names that platforms use; a campaign may declare its own. Every column of a kind is
counted, or is left out with a reason. An export holds no persons.
"""

import csv
import hashlib
import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import pandas as pd

from hustings.features.ingest import raw_head
from hustings.features.ingest.text_format import (
    TextFormat,
    column_names,
    detected,
    open_bytes,
)
from hustings.features.moments import ColumnMoments, MomentError, moments_of
from hustings.features.reaction import KIND_WORDS, REACTION
from hustings.features.tables import TableError

Payload = dict[str, Any]

ALL_ROWS = 2**31 - 1
NAMES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "post_id": ("post_id", "tweet_id", "status_id", "video_id", "media_id", "ad_id",
                    "mcl_id", "content", "id", "permalink", "permalink_url",
                    "tweet_permalink", "post_link", "video_link", "link_to_post",
                    "facebook_url", "url", "ad_name", "creative_name"),
        "occurred_at": ("occurred_at", "status_published", "publish_time",
                        "video_publish_time", "post_created", "published",
                        "published_at", "snippet_published_at", "creation_time",
                        "created_time", "created_at", "create_time", "post_time",
                        "posted", "timestamp", "end_time", "day", "date",
                        "reporting_starts", "by_day", "stat_time_day", "time",
                        "post_created_date"),
        "platform": ("platform", "network"),
        "message_id": ("message_id",),
        "kind": ("kind", "reaction_type", "reaction", "metric"),
        "count": ("count", "value", "n"),
        "post_text": ("post_text", "tweet_text", "status_message", "post_message",
                      "text", "message", "caption", "description", "video_title",
                      "title"),
        "place": ("place", "county_fips", "county", "region", "state"),
        "age_band": ("age_band", "age_group", "age"),
        "sex": ("sex", "gender"),
        "segment": ("segment",),
        "issue": ("issue",),
    }
)  # fmt: skip
"""Our column → the names under which exports have it, the first that is there."""
COUNTS: Mapping[str, str] = MappingProxyType(
    {
        word: kind
        for kind, words in KIND_WORDS.items()
        for word in (kind, *words.split())
        if word not in ("report", "reaction")
    }
)
"""Word for a kind, as a column of a wide export is called without "num_" and the like,
→ kind."""
PLATFORMS: Sequence[tuple[str, str, str]] = (
    ("CrowdTangle", "facebook", "total_interactions post_created"),
    ("Meta Content Library", "facebook", "statistics_reaction_count"),
    ("Meta Content Library", "facebook", "mcl_url"),
    ("Meta Business Suite (Instagram)", "instagram",
     "post_id publish_time account_username"),
    ("Meta Business Suite", "facebook", "post_id publish_time page_id"),
    ("Meta Business Suite", "facebook", "post_id publish_time page_name"),
    ("Meta Insights", "facebook", "post_id post_message posted"),
    ("X analytics", "x", "post_id post_text post_link"),
    ("X analytics", "x", "tweet_text time"),
    ("X API", "x", "public_metrics_like_count"),
    ("YouTube Studio", "youtube", "content video_publish_time"),
    ("YouTube API", "youtube", "statistics_like_count snippet_published_at"),
    ("TikTok Studio", "tiktok", "video_link post_time"),
    ("TikTok Ads", "tiktok", "ad_name paid_likes"),
    ("Meta Ads", "facebook", "ad_name reporting_starts"),
)  # fmt: skip
"""Export, its platform, and columns that only it has."""
BREAKDOWN = ("platform", "place", "age_band", "sex", "segment", "message_id", "issue")
MONTH_FIRST = frozenset({"Meta Business Suite", "Meta Business Suite (Instagram)",
                         "Meta Insights", "Meta Ads"})  # fmt: skip
"""Exports that write 09/10/2026 for 10 September."""
LIFETIME, DAILY = "lifetime", "daily"
_PUBLISHED = frozenset(NAMES["occurred_at"][: NAMES["occurred_at"].index("end_time")])
"""Columns that say when a post was published: its counts are totals since then."""
_PREFIX = re.compile(
    r"^(?:num|n|count|total|lifetime|post|posts|video|page|paid|organic|statistics|"
    r"public_metrics|organic_metrics|non_public_metrics|insights|reactions_by_type_total|"
    r"reactions_by_type|actions|reactions|reaction|activity_by_action_type|"
    r"negative_feedback_from_users|negative_feedback_by_type|negative_feedback_by_type_"
    r"unique|stories_by_action_type|by_action_type|number_of|facebook|tweet|engagement|"
    r"of|to|the|user|users)_"
)
_SUFFIX = re.compile(
    r"_(?:count|counts|total|totals|added|reactions|reaction|clicks|click|unique|users|"
    r"n|metric|paid|organic|viral|boosted|on_post|on_posts|from_users|summary_total_count|summary|total_count)$"
)
_NO_COUNT = frozenset(
    {
        "rate", "ratio", "percent", "percentage", "pct", "per", "cost", "spend",
        "spent", "cpm", "cpc", "ctr", "usd", "eur", "average", "avg", "vs",
        "score", "overperforming", "ranking", "budget",
        "currency", "duration", "hours", "time", "viewed", "seconds", "date",
        "posting",
    }
)  # fmt: skip
"""Words of columns that hold a rate, a price or a level, not a count of reactions."""
_SPLIT = re.compile(r"(?:^|_)(paid|organic|viral|earned|owned|boosted)(?:_|$)")
_BAD_WORDS = re.compile(
    r"ang(?:er|ry)|sad|sorr|dislike|hide|hidden|spam|report_|unlike|unfollow|block|mute|"
    r"unsub|complain|negative|not_interested|thumbs_down|downvote|opt_?out|care|removes|lost"
)
_KIND_WORDS = re.compile(
    r"like|love|wow|haha|comment|share|repl|retweet|repost|favou?rite|react|save|bookmark|"
    r"click|interaction|engag|" + _BAD_WORDS.pattern
)
_TOTAL = re.compile(
    r"^(?:reactions?|interactions?|engagements?|reactions_comments_and_shares|"
    r"reactions_comments_shares|all_reactions|likes_and_reactions|post_engagements?|"
    r"page_engagements?|engaged_users|total_interactions|total_engagements?|"
    r"total_reactions|reaction_count|by_type_total)$"
)
_ONLY_REACTIONS = re.compile(
    r"^(?:all_|total_|num_|post_)*reactions?$|^reaction_count$"
)
_ALL_CLICKS = re.compile(
    r"^(?:total_clicks|clicks_all|(?:lifetime_)?post_clicks|all_clicks)$"
)
_NO_POST = re.compile(
    r"^(?:|totals?|grand total|summary|results? (?:from|of) .*|total of .*|--|-)$",
    re.IGNORECASE,
)
_SPREADSHEET = re.compile(r"^[+-]?\d(?:[.,]\d+)?E\+?\d+$", re.IGNORECASE)
_BLANK = frozenset({"", "-", "--", "—", "–", "n/a", "na", "null", "none", "nan"})
_THOUSANDS = {
    ".": re.compile(r"^\d{1,3}(?:[,\u00a0\u202f\u2009\u2019 ']\d{3})+(?:\.0+)?$"),
    ",": re.compile(r"^\d{1,3}(?:[.\u00a0\u202f\u2009\u2019 ']\d{3})+(?:,0+)?$"),
}
_ROUNDED = {
    ".": re.compile(r"^(\d+(?:\.\d+)?) ?([KMB])$", re.IGNORECASE),
    ",": re.compile(r"^(\d+(?:,\d+)?) ?([KMB])$", re.IGNORECASE),
}
_NUMBER_OR_TIME = re.compile(r"[\d\s.,:/+'%KMBTZe-]{1,30}", re.IGNORECASE)
_TELEPHONE = re.compile(r"\+?[\d .-]*\d{3}[ .-]\d{3,4}[ .-]?\d{4}")
_TIMES = {"K": 1_000, "M": 1_000_000, "B": 1_000_000_000}
_LEAST_INEXACT = 10**15
"""A workbook keeps fifteen digits of a number."""
_ROLLING = re.compile(r"days_28|^week|^month|28_days|7_days")


@dataclass(frozen=True)
class ExportFormat:
    """How a campaign declares that an export is to be read.

    Attributes:
        columns: Ours → theirs, over `NAMES`.
        counts: Their column → kind, over `COUNTS`.
        formats: Formats of times, tried in this order; found from the column without.
        zone: IANA name of the time zone of times that name none; UTC without.
        encoding: Of a text file; found without.
        delimiter: Of a text file; found without.
        decimal: Sign before the decimals of a number.
        totals: Whether counts are totals since publication or of a day; known by the
            export without.
        platform: Of all posts; known by the export without.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, str] = field(default_factory=dict)
    formats: Sequence[str] = ()
    zone: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: Literal[".", ","] = "."
    totals: Literal["lifetime", "daily"] | None = None
    platform: str = ""


class CountFault(NamedTuple):
    """Why a count, or all counts of a row, cannot be read.

    Attributes:
        reason: In words that many faults share.
        got: The value, where it names nobody.
    """

    reason: str
    got: str


class InsightRow(NamedTuple):
    """A row of an export.

    Attributes:
        number: In the file; the header is row 1.
        fields: Fields of its events other than kind and count, without those that are
            empty; `occurred_at` in UTC.
        counts: Column, kind and count; None for a blank, a fault where it is no count.
        fault: Why nothing of the row can be counted, None where it can.
    """

    number: int
    fields: Payload
    counts: tuple[tuple[str, str, int | CountFault | None], ...]
    fault: CountFault | None


class PostCount(NamedTuple):
    """What one post has of one kind, by breakdown.

    Attributes:
        number: Row in the file.
        event: An event without `event_id`; `count` is the total.
        count_id: Id of what is counted, whatever the total.
    """

    number: int
    event: Payload
    count_id: str


@dataclass(frozen=True)
class Insights:
    """An export in our columns.

    Attributes:
        frame: Rows without repeats; index = row in the file.
        columns: Ours → theirs.
        counts: Their column → kind, for a wide export; empty for a long one.
        moments: Times of the rows.
        platform: Platform where no column says it.
        totals: `LIFETIME` or `DAILY`.
        decimal: Sign before the decimals.
        left_out: Columns and rows that are not counted → why.
        faults: Rows that could not be split into columns → why.
        remarks: What was read off the file, in sentences.
        n_rows: Rows of the file.
    """

    frame: pd.DataFrame
    columns: Mapping[str, str]
    counts: Mapping[str, str]
    moments: ColumnMoments
    platform: str
    totals: str
    decimal: str
    left_out: Mapping[str, str]
    faults: Mapping[int, CountFault]
    remarks: Sequence[str]
    n_rows: int

    @cached_property
    def rows(self) -> tuple[InsightRow, ...]:
        """Every row that names a post."""
        return tuple(self._rows())

    def _rows(self) -> Iterator[InsightRow]:
        records = self.frame.to_dict("records")
        times = zip(self.moments.at, self.moments.fault, strict=True)
        for number, row, (at, fault) in zip(
            self.frame.index, records, times, strict=True
        ):
            row_fields = self._fields(row)
            post_id, id_fault = _post_id(row_fields.get("post_id", ""))
            row_fields["post_id"] = post_id
            if at is not None:
                row_fields["occurred_at"] = at.isoformat()
            time_fault = CountFault(
                fault, _for_a_message(row[self.columns["occurred_at"]])
            )
            yield InsightRow(
                int(number),
                row_fields,
                tuple(self._counted(row)),
                id_fault or (None if at is not None else time_fault),
            )

    def _fields(self, row: Mapping[Any, Any]) -> Payload:
        fields = {
            ours: _plain(row[theirs])
            for ours, theirs in self.columns.items()
            if ours not in ("kind", "count", "occurred_at")
        }
        present = {name: value for name, value in fields.items() if value is not None}
        if "platform" in present:
            present["platform"] = present["platform"].strip().lower()
        if "post_text" in present:
            present["post_text"] = present["post_text"][:10_000]
        return {"platform": self.platform, **present}

    def _counted(
        self, row: Mapping[Any, Any]
    ) -> Iterator[tuple[str, str, int | CountFault | None]]:
        if self.counts:
            for column, kind in self.counts.items():
                yield column, kind, count_of(row[column], decimal=self.decimal)
        else:
            column = self.columns["count"]
            kind = _long_kind(row[self.columns["kind"]])
            yield column, kind, count_of(row[column], decimal=self.decimal)

    @property
    def unread(self) -> list[str]:
        """Columns that hold no counts of reactions."""
        read = {*self.columns.values(), *self.counts, *self.left_out}
        return [name for name in map(str, self.frame.columns) if name not in read]

    @property
    def n_rounded(self) -> int:
        """Counts such as 1.2K, which the platform has rounded."""
        columns = list(self.counts) or [self.columns["count"]]
        rounded = _ROUNDED[self.decimal]
        return sum(
            bool(rounded.match(str(value).strip()))
            for column in columns
            for value in self.frame[column]
        )

    def post_counts(self) -> Iterator[PostCount]:
        """Counts that can be read, each once, in the order of time.

        Rows that differ only in a breakdown outside `BREAKDOWN` are added up.
        """
        sums: dict[tuple[str, str], PostCount] = {}
        for row in self.rows:
            for _, kind, count in row.counts:
                if row.fault is not None or not isinstance(count, int) or not count:
                    continue
                event = {**row.fields, "kind": kind, "count": count}
                at = event["occurred_at"]
                key = _count_id(event, at if self.totals == DAILY else "")
                before = sums.get((key, at))
                if before is not None:
                    event["count"] += before.event["count"]
                sums[key, at] = PostCount(row.number, event, key)
        yield from sorted(sums.values(), key=lambda count: count.event["occurred_at"])

    @property
    def grows_at_import(self) -> bool:
        """Whether growth has no time of its own: each row gives when it was posted."""
        name = _normal(self.columns["occurred_at"])
        return self.totals == LIFETIME and name not in {"end_time", "snapshot_at"}


def read_insights(path: Path, how: ExportFormat) -> Insights:
    """Read an export of posts.

    Args:
        path: CSV or another text file, packed or not, .xlsx, Parquet or JSON.
        how: What the campaign declares.

    Raises:
        FileNotFoundError: If it is not there.
        TableError: If it lacks a column (the message lists those that it has), or its
            times or totals can be read in two ways.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected an export of a page, found none")
    try:
        frame, faults, remarks = _raw(path, how)
    except (csv.Error, EOFError, OSError, zlib.error, zipfile.BadZipFile) as failure:
        raise TableError(
            f"{path.name}: expected an export of a page, got a file that is broken or "
            f"cut off ({type(failure).__name__}); export it anew"
        ) from None
    n_rows = len(frame) + len(faults)
    there = {_normal(str(name)): str(name) for name in reversed(frame.columns)}
    export, platform = _platform(there)
    column_of = _columns(there, how)
    left_out: dict[str, str] = {}
    counts = _wide(frame, how, set(column_of.values()), left_out)
    if "kind" in column_of and "count" in column_of and not how.counts:
        counts, left_out = {}, {}
    elif counts:
        column_of = {o: t for o, t in column_of.items() if o not in ("kind", "count")}
    _require(path, frame, column_of, counts)
    frame = _posts_alone(frame, column_of, counts, left_out)
    distinct = frame[~frame.astype("str").duplicated()]
    if len(distinct) < len(frame):
        left_out["repeats"] = f"{len(frame) - len(distinct):,} rows stand there twice"
    time_column = column_of["occurred_at"]
    moments = _moments(path, distinct, time_column, export, how)
    totals = _totals(path, distinct, column_of, counts, export, how)
    name = (how.platform or platform or "facebook").strip().lower()
    remarks += _remarks(export, name, moments, totals, how)
    return Insights(
        distinct, column_of, counts, moments, name, totals, how.decimal, left_out,
        faults, remarks, n_rows,
    )  # fmt: skip


# --- file → frame ---------------------------------------------------------------------


def _raw(
    path: Path, how: ExportFormat
) -> tuple[pd.DataFrame, dict[int, CountFault], list[str]]:
    """Rows by their number in the file, those that are broken, and what was found."""
    suffixes = {suffix.lower() for suffix in path.suffixes}
    if suffixes & {".json", ".jsonl", ".ndjson"}:
        return _json_rows(path), {}, ["JSON"]
    if suffixes & {".parquet", ".pq"}:
        frame = raw_head(path, n_rows=ALL_ROWS)
        return frame.set_axis(range(2, len(frame) + 2)), {}, ["Parquet"]
    if suffixes & {".xlsx", ".xlsm"}:
        frame = pd.read_excel(path, dtype=object).map(_as_kept_by_a_workbook)
        return frame.set_axis(range(2, len(frame) + 2)), {}, ["a workbook"]
    return _text_rows(path, _written(path, how))


def _written(path: Path, how: ExportFormat) -> TextFormat:
    seen = detected(path)
    return TextFormat(
        how.encoding or seen.encoding, how.delimiter or seen.delimiter, seen.quoting,
        member=seen.member,
    )  # fmt: skip


def _text_rows(
    path: Path, written: TextFormat
) -> tuple[pd.DataFrame, dict[int, CountFault], list[str]]:
    try:
        with (
            open_bytes(path, member=written.member) as packed,
            io.TextIOWrapper(packed, encoding=written.codec, newline="") as text,
        ):
            # line 1 of Excel's own: "sep=;"
            records = [row for row in written.rows(text) if row]
    except (UnicodeError, LookupError) as failure:
        raise TableError(
            f"{path.name}: expected the encoding {written.encoding}, got "
            f"{failure.args[-1]}; declare another one by encoding in [reactions] of "
            "campaign.toml"
        ) from None
    if records and re.match(r"sep=", records[0][0]):
        del records[0]
    names = column_names(records[0] if records else [], path.name)
    records_by_row, faults = {}, {}
    for number, record in enumerate(records[1:], 2):
        if len(record) == len(names):
            records_by_row[number] = record
        else:
            reason = f"expected {len(names)} fields in a row"
            faults[number] = CountFault(reason, str(len(record)))
    frame = pd.DataFrame.from_dict(
        records_by_row, orient="index", columns=names, dtype="str"
    )
    sign = {"\t": "tab"}.get(written.delimiter, repr(written.delimiter))
    return frame, faults, [f"encoding {written.encoding}, delimiter {sign}"]


def _json_rows(path: Path) -> pd.DataFrame:
    """Posts of an API's answer, nested fields joined by "_".

    Metrics of `insights` become columns; answers of metrics alone become long rows.
    """
    with open_bytes(path) as file:
        given_bytes = file.read()
    try:
        text = given_bytes.decode(json.detect_encoding(given_bytes))
    except UnicodeError:
        raise TableError(f"{path.name}: expected JSON in UTF-8, got bytes") from None
    try:
        given = json.loads(text)
    except ValueError:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            given = [json.loads(line) for line in lines]
        except ValueError as failure:
            raise TableError(f"{path.name}: expected JSON, {failure}") from None
    posts = _first_list(given)
    rows = [
        row
        for post in posts
        for row in (_metric_rows(post) if _is_metric(post) else [_flat(post)])
    ]
    frame = pd.DataFrame(rows, dtype=object)
    return frame.set_axis(range(1, len(frame) + 1))


def _first_list(given: Any) -> list[Mapping[str, Any]]:
    if isinstance(given, list):
        return [item for item in given if isinstance(item, Mapping)]
    if not isinstance(given, Mapping):
        return []
    for value in given.values():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            return _first_list(value)
        if isinstance(value, Mapping) and "summary" not in value:
            inner = _first_list(value)
            if inner and "id" not in given:
                return inner
    return [given] if "id" in given else []


def _is_metric(item: Mapping[str, Any]) -> bool:
    return "values" in item and "name" in item


def _metric_rows(metric: Mapping[str, Any]) -> list[Payload]:
    """Long rows of a metric: post, kind, value, time and period."""
    post = str(metric.get("id", "")).partition("/insights")[0]
    rows = []
    for entry in metric["values"]:
        value = entry.get("value")
        parts = value if isinstance(value, Mapping) else {metric["name"]: value}
        rows += [
            {
                "post_id": post, "metric": kind, "value": n,
                "end_time": entry.get("end_time"), "period": metric.get("period"),
            }
            for kind, n in parts.items()
        ]  # fmt: skip
    return rows


def _flat(post: Mapping[str, Any], before: str = "") -> Payload:
    flat: Payload = {}
    for key, value in post.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping) and isinstance(value.get("summary"), Mapping):
            total = value["summary"].get("total_count")
            flat[name] = total
            if total is None and isinstance(value.get("data"), list):
                flat |= _by_type(name, value["data"])
        elif isinstance(value, Mapping) and key == "insights":
            for metric in value.get("data", []):
                flat |= _latest(metric)
        elif isinstance(value, Mapping) and isinstance(value.get("data"), list):
            flat |= _by_type(name, value["data"])
        elif isinstance(value, Mapping) and set(value) == {"count"}:
            flat[name] = value["count"]
        elif isinstance(value, Mapping):
            flat |= _flat(value, f"{name}_")
        elif not isinstance(value, list):
            flat[name] = value
    return flat


def _by_type(name: str, entries: Sequence[Any]) -> Payload:
    """Reactions that are listed one by one, counted; nobody's name is kept."""
    types = Counter(
        str(entry.get("type", name)).lower()
        for entry in entries
        if isinstance(entry, Mapping)
    )
    return dict(types)


def _latest(metric: Mapping[str, Any]) -> Payload:
    if metric.get("period") not in (None, "lifetime") or not metric.get("values"):
        return {}
    name, value = metric["name"], metric["values"][-1].get("value")
    if isinstance(value, Mapping):
        return {f"{name}_{kind}": n for kind, n in value.items()}
    return {name: value}


# --- columns --------------------------------------------------------------------------


def _platform(there: Mapping[str, str]) -> tuple[str, str]:
    for export, platform, columns in PLATFORMS:
        if there.keys() >= set(columns.split()):
            return export, platform
    return "", ""


def _columns(there: Mapping[str, str], how: ExportFormat) -> dict[str, str]:
    column_of = dict(how.columns)
    for ours, names in NAMES.items():
        theirs = next((there[name] for name in names if name in there), None)
        is_taken = theirs in column_of.values() or theirs in how.counts
        if ours not in column_of and theirs is not None and not is_taken:
            column_of[ours] = theirs
    return column_of


def _word_of(name: str) -> str:
    """A column's word for a kind, without what stands around it."""
    word = _normal(name)
    for pattern in (_PREFIX, _SUFFIX):
        while word not in COUNTS and (bare := pattern.sub("", word)) != word:
            word = bare
    return word


def _wide(
    frame: pd.DataFrame, how: ExportFormat, taken: set[str], left_out: dict[str, str]
) -> dict[str, str]:
    """Column → kind; fills in what is left out and why."""
    kind_of = dict(how.counts)
    totals, words = list[str](), dict[str, list[str]]()
    for column in map(str, frame.columns):
        name, word = _normal(column), _word_of(column)
        if column in kind_of or column in taken or not _holds_numbers(frame[column]):
            continue
        words_of_name = name.split("_")
        is_name = words_of_name[-1] in {"id", "url", "link", "name"}
        if is_name or not _NO_COUNT.isdisjoint(words_of_name):
            continue
        if _ALL_CLICKS.search(name):
            left_out[column] = "clicks of every sort together, hiding included"
        elif word == "likes" and "page" in name.split("_"):
            left_out[column] = "likes of a page, not of a post"
        elif _TOTAL.match(name) or _TOTAL.match(word):
            totals.append(column)
        elif word in COUNTS:
            words.setdefault(word, []).append(column)
        elif _KIND_WORDS.search(name):
            left_out[column] = "not known as a count of a kind"
    for word, columns in words.items():
        counted = _once(columns)
        kind_of |= dict.fromkeys(counted, COUNTS[word])
        reason = f"counted in {', '.join(counted)}"
        left_out |= {name: reason for name in columns if name not in counted}
    _leave_out_parts(kind_of, how, left_out)
    _count_totals(kind_of, totals, left_out)
    return kind_of


def _holds_numbers(column: pd.Series) -> bool:
    # a column of words, such as blocked = yes, is no count; an empty one may be one
    present = column.dropna().astype("str")
    return column.empty or bool(present.str.contains(r"\d").any())


def _once(columns: list[str]) -> list[str]:
    """Columns of one word that count nobody twice: the whole, or all its parts."""
    parts = [c for c in columns if _SPLIT.search(_normal(c))]
    wholes = [c for c in columns if c not in parts]
    return wholes[:1] if wholes else parts


def _leave_out_parts(
    kind_of: dict[str, str], how: ExportFormat, left_out: dict[str, str]
) -> None:
    """Leave out columns that others contain: clicks by sort, feedback by sort."""
    clicks = [
        c for c, kind in kind_of.items() if kind == "click" and c not in how.counts
    ]
    for column in clicks[1:]:
        left_out[column] = f"clicks are counted in {clicks[0]}"
        del kind_of[column]
    parts = {"hide", "report_spam", "unfollow"} & set(kind_of.values())
    for column, kind in list(kind_of.items()):
        if kind == "negative_feedback" and parts and column not in how.counts:
            left_out[column] = "a total whose parts are counted"
            del kind_of[column]


def _count_totals(
    kind_of: dict[str, str], totals: list[str], left_out: dict[str, str]
) -> None:
    """Count a total of reactions where none of its parts is there."""
    parts = {"like", "love", "care", "wow", "haha", "sad", "angry"}
    not_of_reactions = {"comment", "share"}
    present = set(kind_of.values())
    for column in totals:
        of_reactions = _ONLY_REACTIONS.match(_normal(column)) is not None or (
            _word_of(column) in ("reactions", "reaction")
        )
        if (
            present & (parts if of_reactions else parts | not_of_reactions)
            or REACTION in present
            or (
                not of_reactions
                and any(c != column and _is_reactions(c) for c in totals)
            )
        ):
            left_out[column] = "a total whose parts are counted"
        else:
            kind_of[column] = REACTION
            present.add(REACTION)


def _is_reactions(column: str) -> bool:
    return _ONLY_REACTIONS.match(_normal(column)) is not None


def _long_kind(value: Any) -> str:
    word = _word_of(str(value))
    return COUNTS.get(word, _normal(str(value))[:32] if value == value else "")


def _posts_alone(
    frame: pd.DataFrame,
    column_of: Mapping[str, str],
    counts: Mapping[str, str],
    left_out: dict[str, str],
) -> pd.DataFrame:
    """Rows of posts, without those of totals and of what is no reaction."""
    ids = frame[column_of["post_id"]].map(_plain).fillna("").astype(str).str.strip()
    times = frame[column_of["occurred_at"]].map(_plain).fillna("").astype(str)
    # a report of advertisements ends in a row of totals without a name
    is_of_ads = _normal(column_of["post_id"]) in {"ad_id", "ad_name", "creative_name"}
    is_named = (ids != "") | (times.str.strip() == "") | is_of_ads
    is_total = ids.str.match(_NO_POST) & is_named
    if is_total.any():
        first = frame.index[is_total][0]
        left_out["rows"] = f"{is_total.sum():,} rows of no post, such as row {first}"
    frame = frame[~is_total]
    if counts:
        return frame
    kinds = frame[column_of["kind"]].astype("str")
    period = frame.get("period", pd.Series("", index=frame.index)).astype("str")
    is_reaction = kinds.map(lambda kind: _word_of(kind) in COUNTS)
    is_total = kinds.map(lambda kind: bool(_TOTAL.match(_word_of(kind))))
    is_other = ~is_reaction & ~is_total & kinds.map(_is_no_reaction)
    is_rolling = period.map(lambda value: bool(_ROLLING.search(value)))
    is_known_total = is_total & bool(is_reaction.any())
    for reason, drop in (
        ("no reactions", is_other),
        ("a total whose parts are counted", is_known_total),
        ("counts of several days, which overlap", is_rolling),
    ):
        for kind in sorted(set(kinds[drop])):
            left_out[kind] = reason
    renamed = kinds.where(~is_total, REACTION)
    frame = frame.assign(**{column_of["kind"]: renamed})
    return frame[~(is_other | is_known_total | is_rolling)]


def _is_no_reaction(kind: str) -> bool:
    return bool(
        re.search(r"impression|reach|view|play|fan|follower|watch|visit", _normal(kind))
    )


def _require(
    path: Path,
    frame: pd.DataFrame,
    column_of: Mapping[str, str],
    wide: Mapping[str, str],
) -> None:
    available = ", ".join(map(str, frame.columns))
    strange = sorted({*column_of.values(), *wide} - set(map(str, frame.columns)))
    lacking = [name for name in ("post_id", "occurred_at") if name not in column_of]
    if not wide:
        lacking += [name for name in ("kind", "count") if name not in column_of]
    if strange or lacking:
        raise TableError(
            f"{path.name}: expected a column {(strange or lacking)[0]!r}, "
            f"got {available}; mend [reactions.columns] or [reactions.counts] in "
            "campaign.toml"
        )


# --- times and totals -----------------------------------------------------------------


def _moments(
    path: Path, frame: pd.DataFrame, column: str, export: str, how: ExportFormat
) -> ColumnMoments:
    try:
        return moments_of(
            frame[column],
            formats=how.formats,
            zone=how.zone or "UTC",
            month_first=export in MONTH_FIRST,
        )
    except MomentError as failure:
        raise TableError(
            f"{path.name}: column {column}: {failure}; declare formats in [reactions] "
            'of campaign.toml, such as formats = ["%m/%d/%Y %H:%M"]'
        ) from None


def _totals(
    path: Path,
    frame: pd.DataFrame,
    column_of: Mapping[str, str],
    counts: Mapping[str, str],
    export: str,
    how: ExportFormat,
) -> str:
    """Whether counts are totals since publication or those of a day."""
    if how.totals is not None:
        return how.totals
    periods = {
        str(value).strip().lower()
        for name in ("period", "Period", "Date")
        if name in frame and name != column_of["occurred_at"]
        for value in frame[name].unique()
    }
    column = _normal(column_of["occurred_at"])
    if (
        periods == {"lifetime"}
        or column in _PUBLISHED
        or export.startswith(("X", "You"))
    ):
        return LIFETIME
    if not counts or column in {"day", "by_day", "stat_time_day"}:
        return DAILY
    by_post = [column_of[name] for name in ("post_id", *BREAKDOWN) if name in column_of]
    times = frame.groupby(by_post, dropna=False)[column_of["occurred_at"]].nunique()
    if (times > 1).any():
        raise TableError(
            f"{path.name}: a post stands there at several times by "
            f"{column_of['occurred_at']}: declare in [reactions] of campaign.toml "
            'totals = "daily" where each count is of its day alone, totals = '
            '"lifetime" where it is of all days since publication'
        )
    return LIFETIME


def _remarks(
    export: str, platform: str, moments: ColumnMoments, totals: str, how: ExportFormat
) -> list[str]:
    zone = how.zone or "UTC ([reactions] zone declares another)"
    of = "since publication" if totals == LIFETIME else "of each day"
    remarks = [
        f"{export or 'an export of no platform known'}, as {platform}",
        f"times as {moments.written}",
        f'counts are totals {of} (totals = "{totals}")',
    ]
    if moments.n_zoneless:
        remarks[1] += f", without a zone: taken as {zone}"
    return remarks


# --- cells ----------------------------------------------------------------------------


def _normal(name: str) -> str:
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")


def _plain(value: Any) -> Any:
    if value is None or value is pd.NaT or value != value or value == "":
        return None
    if isinstance(value, pd.Timestamp | datetime):
        return value.isoformat()
    return str(value)


def _as_kept_by_a_workbook(value: Any) -> Any:
    is_inexact = isinstance(value, int) and abs(value) >= _LEAST_INEXACT
    return f"{value:E}" if is_inexact else value


def _for_a_message(value: Any) -> str:
    """A value for a message: a number or a time; words may name a person."""
    text = str(value).strip()
    is_plain = _NUMBER_OR_TIME.fullmatch(text) and not _TELEPHONE.fullmatch(text)
    return text if is_plain else f"a text of {len(text)} characters"


def _post_id(given: str) -> tuple[str, CountFault | None]:
    """A post's id as text, and why it is none."""
    bare = given.strip()
    if not bare:
        return "", CountFault("expected the id of a post", "none")
    if _SPREADSHEET.match(bare):
        return bare, CountFault(
            "expected a post's id as text, which a spreadsheet has made a number", bare
        )
    if re.fullmatch(r"\d+\.0+", bare):
        digits = bare.partition(".")[0]
        if int(digits) >= 2**53:
            return bare, CountFault(
                "expected a post's id as text, which a spreadsheet has made a number",
                bare,
            )
        return digits, None
    return bare, None


def count_of(value: Any, *, decimal: str = ".") -> int | CountFault | None:
    """A count as it is written; None for a blank, a fault for what is no count.

    A comma parts thousands only before three digits each.

    >>> [count_of(v) for v in ("1,204", 3.0, "", "1.2K")]
    [1204, 3, None, 1200]
    >>> count_of("1,5").reason
    'expected a whole number'
    """
    text = "" if value is None or value != value else str(value).strip()
    if text.casefold() in _BLANK:
        return None
    if text.isascii() and text.isdecimal():
        return int(text)
    if _THOUSANDS[decimal].match(text):
        return int(re.sub(r"\D", "", re.sub(rf"\{decimal}0+$", "", text)))
    if re.fullmatch(rf"\d+\{decimal}0+", text) or (
        isinstance(value, float) and value.is_integer() and 0 <= value < 2**53
    ):
        return int(text.partition(decimal)[0]) if decimal in text else int(value)
    rounded = _ROUNDED[decimal].match(text)
    if rounded:
        size = _TIMES[rounded[2].upper()]
        return round(float(rounded[1].replace(",", ".")) * size)
    return CountFault("expected a whole number", _for_a_message(text))


def _count_id(event: Mapping[str, Any], day: str) -> str:
    parts = [event.get(name) for name in ("post_id", "kind", *BREAKDOWN)]
    return hashlib.sha256(repr([*parts, day]).encode()).hexdigest()[:32]
