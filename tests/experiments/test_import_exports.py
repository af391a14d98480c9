"""Exports of platforms through `hustings reactions import`: nothing lost, all told."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from hustings.experiments.cli import app
from hustings.experiments.declaration import load_campaign
from hustings.serving.reactions.store import Events


class Campaign:
    """A campaign in a folder, whose store only this test writes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.declare("")

    def declare(self, lines: str) -> None:
        text = load_campaign("sample").file.read_text()
        (self.folder / "campaign.toml").write_text(f"{text}\n[reactions]\n{lines}\n")

    def command(self, *arguments: Any) -> Result:
        given = [*arguments, "--campaign", self.folder, "--data", self.folder / "runs"]
        nowhere = {"MLFLOW_TRACKING_URI": None, "HUSTINGS_EVENTS": None}
        return CliRunner().invoke(app, [str(a) for a in given], env=nowhere)

    def imported(
        self, content: str | bytes, *options: str, name: str = "export.csv"
    ) -> Result:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return self.command("reactions", "import", path, *options)

    def events(self) -> pd.DataFrame:
        store = Events.open(self.folder / "runs" / "sample" / "events.db")
        try:
            return store.since()[0]
        finally:
            store.close()

    def people(self) -> dict[str, int]:
        """People by kind, over all posts."""
        frame = self.events()
        return {str(k): int(n) for k, n in frame.groupby("kind")["count"].sum().items()}


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def n_counts(result: Result) -> tuple[int, int, int]:
    """Kept, known already and set aside, as the command says."""
    match = re.search(
        r"Kept ([\d,]+), known already ([\d,]+), quarantined ([\d,]+)", result.output
    )
    assert match, result.output
    kept, known, aside = (int(n.replace(",", "")) for n in match.groups())
    total = re.search(r"([\d,]+) counts in = ", result.output)
    assert total
    assert int(total[1].replace(",", "")) == kept + known + aside
    return kept, known, aside


CROWDTANGLE = """\
Page Name,Facebook Id,Likes at Posting,Post Created,Type,Total Interactions,Likes,\
Comments,Shares,Love,Wow,Haha,Sad,Angry,Care,URL,Message
Elm Forward,100,5000,2026-09-10 13:04:05 EDT,Photo,"1,300",100,50,30,40,10,20,50,\
"1,000",7,https://example.org/p/1,"Jobs, now"
"""
META = """\
Post ID,Page ID,Page name,Title,Publish time,Permalink,Post type,Date,Reach,\
"Reactions, Comments and Shares",Reactions,Comments,Shares,Total clicks,\
Negative feedback from users: Hide all,Negative feedback from users: Report as spam
122100000000000001,111,Elm,Jobs,09/10/2026 07:15,https://example.org/1,Photos,Lifetime,\
8000,190,120,40,30,300,9,2
"""
INSTAGRAM = """\
Post ID,Account ID,Account username,Account name,Description,Publish time,Permalink,\
Post type,Views,Reach,Likes,Shares,Follows,Comments,Saves
18011,1784,elm,Elm,Jobs,10/23/2025 08:31,https://example.org/r,IG reel,"12,400",9100,\
610,88,41,57,230
"""
X_NEW = """\
Post id,Date,Post text,Post Link,Impressions,Likes,Engagements,Bookmarks,Shares,\
New follows,Replies,Reposts,Profile visits,Detail Expands,URL Clicks,Hashtag Clicks
1799999999999999999,"Thu, Sep 10, 2026",Jobs,https://x.com/e/1,655,2,13,1,4,3,5,6,9,8,7,1
"""
X_OLD = """\
Tweet id,Tweet permalink,Tweet text,time,impressions,engagements,engagement rate,\
retweets,replies,likes,user profile clicks,url clicks
1700000000000000001,https://x.com/e/2,Jobs,2026-09-10 12:00 +0000,1000,28,.1,5,3,20,1,4
"""
YOUTUBE = """\
Content,Video title,Video publish time,Duration,Comments added,Shares,Dislikes,Likes,\
Likes (vs. dislikes) (%),Subscribers lost,Subscribers gained,Views
Total,,,,90,90,90,90,50,90,90,9000
abcDEF12345,Jobs,"Sep 3, 2026",44,11,12,300,14,4.5,15,16,9000
"""
TIKTOK = """\
Video title,Video link,Post time,Total likes,Total comments,Total shares,Total views,\
Add to favorites
Jobs,https://example.org/video/7400000000000000001,2026-09-03 19:05:00,1.2K,48,31,\
"18,400",6
"""
META_ADS = """\
Ad name,Reporting starts,Reporting ends,Amount spent (USD),Link clicks,\
CPC (cost per link click) (USD),Clicks (all),Page engagement,Post reactions,\
Post comments,Post saves,Post shares
,2026-09-01,2026-09-07,99.00,200,0.10,240,320,50,8,6,2
jobs 1,2026-09-01,2026-09-07,99.00,200,0.10,240,320,50,8,6,2
"""
TIKTOK_ADS = """\
Ad name,By Day,Cost,Impressions,Paid likes,Paid comments,Paid shares,Paid followers
jobs 1,2026-09-01,9.50,1000,12,3,4,1
jobs 1,2026-09-02,9.50,1000,13,0,1,1
"""
CONTENT_LIBRARY = """\
id,creation_time,content_type,mcl_url,post_owner.name,statistics.angry_count,\
statistics.care_count,statistics.comment_count,statistics.haha_count,\
statistics.like_count,statistics.love_count,statistics.reaction_count,\
statistics.sad_count,statistics.share_count,statistics.views,statistics.wow_count
9007199254740993,2026-09-10T12:00:00Z,photo,https://example.org/m,Elm,1,2,3,4,5,6,\
27,8,9,10000,10
"""
GRAPH = {
    "data": [
        {
            "id": "111_222", "created_time": "2026-09-10T12:00:00+0000",
            "message": "Jobs", "permalink_url": "https://example.org/p",
            "reactions": {"data": [], "summary": {"total_count": 30}},
            "comments": {"data": [], "summary": {"total_count": 4}},
            "shares": {"count": 5},
            "insights": {"data": [
                {"name": "post_reactions_by_type_total", "period": "lifetime",
                 "values": [{"value": {"like": 10, "anger": 12, "sorry": 8}}]},
                {"name": "post_negative_feedback_by_type", "period": "lifetime",
                 "values": [{"value": {"hide_clicks": 3, "report_spam_clicks": 2}}]},
            ]},
        }
    ],
    "paging": {"next": "https://example.org/next"},
}  # fmt: skip
GRAPH_ALIASES = {
    "data": [
        {
            "id": "111_333", "created_time": "2026-09-10T12:00:00+0000",
            "like": {"data": [], "summary": {"total_count": 3}},
            "angry": {"data": [], "summary": {"total_count": 4}},
            "sad": {"data": [], "summary": {"total_count": 5}},
        }
    ]
}  # fmt: skip
GRAPH_METRICS = {
    "data": [
        {"name": "post_reactions_anger_total", "period": "lifetime",
         "id": "111_444/insights/post_reactions_anger_total/lifetime",
         "values": [{"value": 6, "end_time": "2026-09-10T07:00:00+0000"}]},
        {"name": "post_impressions", "period": "lifetime",
         "id": "111_444/insights/post_impressions/lifetime",
         "values": [{"value": 900, "end_time": "2026-09-10T07:00:00+0000"}]},
    ]
}  # fmt: skip
X_API = {
    "data": [
        {"id": "1799", "text": "Jobs", "created_at": "2026-09-10T12:00:00.000Z",
         "public_metrics": {"retweet_count": 1, "reply_count": 2, "like_count": 3,
                            "quote_count": 4, "bookmark_count": 5}}
    ]
}  # fmt: skip
EXPORTS: Mapping[str, tuple[str, str, dict[str, int], tuple[str, ...]]] = {
    # name: content, platform, people by kind, what is named as left out
    "crowdtangle": (
        CROWDTANGLE, "facebook",
        {"like": 100, "comment": 50, "share": 30, "love": 40, "wow": 10, "haha": 20,
         "sad": 50, "angry": 1000, "care": 7},
        ("Total Interactions",),
    ),
    "meta": (
        META, "facebook",
        {"reaction": 120, "comment": 40, "share": 30, "hide": 9, "report_spam": 2},
        ("Reactions, Comments and Shares", "Total clicks"),
    ),
    "instagram": (
        INSTAGRAM, "instagram",
        {"like": 610, "share": 88, "follow": 41, "comment": 57, "save": 230}, (),
    ),
    "x": (
        X_NEW, "x",
        {"like": 2, "save": 1, "share": 10, "follow": 3, "comment": 5, "click": 7},
        ("Engagements", "Hashtag Clicks"),
    ),
    "x_old": (
        X_OLD, "x", {"like": 20, "share": 5, "comment": 3, "click": 4},
        ("engagements", "user profile clicks"),
    ),
    "youtube": (
        YOUTUBE, "youtube",
        {"comment": 11, "share": 12, "dislike": 300, "like": 14, "unfollow": 15,
         "follow": 16},
        ("such as row 2",),
    ),
    "tiktok": (
        TIKTOK, "tiktok", {"like": 1200, "comment": 48, "share": 31, "save": 6},
        ("rounded by the platform: 1",),
    ),
    "meta_ads": (
        META_ADS, "facebook",
        {"click": 200, "reaction": 50, "comment": 8, "save": 6, "share": 2},
        ("Clicks (all)", "Page engagement", "such as row 2"),
    ),
    "tiktok_ads": (
        TIKTOK_ADS, "tiktok", {"like": 25, "comment": 3, "share": 5, "follow": 2}, (),
    ),
    "content_library": (
        CONTENT_LIBRARY, "facebook",
        {"angry": 1, "care": 2, "comment": 3, "haha": 4, "like": 5, "love": 6, "sad": 8,
         "share": 9, "wow": 10},
        ("statistics.reaction_count",),
    ),
    "graph.json": (
        json.dumps(GRAPH), "facebook",
        {"like": 10, "angry": 12, "sad": 8, "comment": 4, "share": 5, "hide": 3,
         "report_spam": 2},
        ("reactions: a total",),
    ),
    "aliases.json": (
        json.dumps(GRAPH_ALIASES), "facebook", {"like": 3, "angry": 4, "sad": 5}, (),
    ),
    "metrics.json": (
        json.dumps(GRAPH_METRICS), "facebook", {"angry": 6}, ("post_impressions",),
    ),
    "x_api.json": (
        json.dumps(X_API), "x",
        {"share": 1, "comment": 2, "like": 3, "quote": 4, "save": 5}, (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPORTS)
def test_every_count_of_an_export_is_kept_and_every_other_column_named(campaign, name):
    content, platform, people, left_out = EXPORTS[name]
    file = name if name.endswith(".json") else f"{name}.csv"
    result = campaign.imported(content, name=file)
    assert result.exit_code == 0, result.output
    assert n_counts(result)[1:] == (0, 0)
    frame = campaign.events()
    assert campaign.people() == people
    assert set(frame["platform"]) == {platform}
    for column in left_out:
        assert column in result.output
    # read again it adds nothing
    again = campaign.imported(content, name=file)
    assert (again.exit_code, n_counts(again)[0]) == (0, 0)
    assert len(campaign.events()) == len(frame)


def test_times_are_those_of_the_platform_and_of_the_zone_that_is_declared(campaign):
    campaign.imported(META)
    assert set(campaign.events()["occurred_at"]) == {pd.Timestamp("2026-09-10 07:15")}
    campaign.imported(X_OLD, name="x.csv")
    of_x = campaign.events().query("platform == 'x'")
    assert set(of_x["occurred_at"]) == {pd.Timestamp("2026-09-10 12:00")}
    # an id of nineteen digits is a text
    assert set(of_x["post_id"]) == {"1700000000000000001"}
    campaign.declare('zone = "America/New_York"')
    campaign.imported(INSTAGRAM, name="i.csv")
    campaign.imported(CROWDTANGLE, name="c.csv")
    times = campaign.events().groupby("platform")["occurred_at"].max()
    assert times["instagram"] == pd.Timestamp("2025-10-23 12:31")
    last = campaign.events().query("post_id == 'https://example.org/p/1'")
    assert set(last["occurred_at"]) == {pd.Timestamp("2026-09-10 17:04:05")}


@pytest.mark.parametrize(
    ("declared", "times", "expected"),
    [
        ("", ("1789041600",), "2026-09-10 12:00"),
        ("", ("1789041600000",), "2026-09-10 12:00"),
        ("", ("13/10/2025 07:15", "02/10/2025 07:15"), "2025-10-02 07:15"),
        ("", ("10/13/2025 7:15 PM", "10/02/2025 7:15 AM"), "2025-10-02 07:15"),
        ("", ("10.02.2026 07:15",), "2026-02-10 07:15"),
        ("", ("Thu Sep 10 12:00:00 +0000 2026",), "2026-09-10 12:00"),
        ("", ("September 10, 2026 8:00 AM EDT",), "2026-09-10 12:00"),
        ('formats = ["%m/%d/%y %H:%M"]', ("09/10/26 07:15",), "2026-09-10 07:15"),
        (
            'formats = ["%d/%m/%Y", "%Y%m%dT%H%M"]',
            ("13/09/2026", "20260902T0715"),
            "2026-09-02 07:15",
        ),
    ],
)
def test_times_in_many_writings(campaign, declared, times, expected):
    campaign.declare(declared)
    rows = "".join(f'p{i},"{time}",3\n' for i, time in enumerate(times))
    result = campaign.imported(f"post_id,publish_time,num_likes\n{rows}")
    assert result.exit_code == 0, result.output
    assert campaign.events()["occurred_at"].min() == pd.Timestamp(expected)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        # the order of day and month is asked for, never guessed
        ("post_id,publish_time,num_likes\np,09/10/2026,3\n", "formats"),
        (
            "post_id,publish_time,num_likes\np,13/10/2026,3\nq,10/13/2026,3\n",
            "one order",
        ),
        ("post_id,date,num_likes\np,2026-09-01,3\np,2026-09-02,4\n", "totals ="),
        ("post_id,date,num_likes\np,2026-09-01,0\n", "kept 0"),
        ("post_id,date,num_likes\n", "kept 0"),
        ("post_id,date,num_likes\np,soon,4\n", "row 2: got a text of 4"),
        ("post_id,date,num_likes\n1.23E+17,2026-09-01,4\n", "row 2: got 1.23E+17"),
        ("post_id,date,num_likes\n1.2e17,2026-09-01,4\n", "spreadsheet"),
        ("post_id,date,num_likes\n1700000000000000001.0,2026-09-01,4\n", "spreadsheet"),
        ("post_id,date,views\np,2026-09-01,4\n", "[reactions.counts]"),
    ],
)
def test_what_cannot_be_counted_stops_and_stores_nothing(campaign, content, expected):
    result = campaign.imported(content)
    assert result.exit_code == 2
    assert expected in result.output.replace("\n", " "), result.output
    assert campaign.events().empty


@pytest.mark.parametrize(
    ("content", "people"),
    [
        ("post_id\tdate\tnum_angrys\n1\t2026-09-10\t7\n".encode("utf-16"), 7),
        (b"post_id;date;num_angrys\n1;2026-09-10;7\n", 7),
        ("post_id,date,title,num_angrys\n1,2026-09-10,caf\xe9,7\n".encode("cp1252"), 7),
        ("\ufeffpost_id,date,num_angrys\r\n1,2026-09-10,7\r\n".encode(), 7),
        (b"sep=;\npost_id;date;num_angrys\n1;2026-09-10;7\n", 7),
        ("post_id|date|num_angrys\n1|2026-09-10|7\n".encode("utf-16-le"), 7),
    ],
)
def test_encoding_and_delimiter_are_found_and_told(campaign, content, people):
    result = campaign.imported(content)
    assert result.exit_code == 0, result.output
    assert campaign.people() == {"angry": people}
    assert "encoding" in result.output
    assert "delimiter" in result.output


def test_a_declared_encoding_and_delimiter_win(campaign):
    campaign.declare('encoding = "mac_roman"\ndelimiter = ";"')
    content = "post_id;date;title,angry;num_angrys\n1;2026-09-10;caf\xe9,1;7\n"
    result = campaign.imported(content.encode("mac_roman"))
    assert "encoding mac_roman, delimiter ';'" in result.output
    assert campaign.people() == {"angry": 7}
    campaign.declare('encoding = "ascii"')
    wrong = campaign.imported(content.encode("mac_roman"))
    assert wrong.exit_code == 2
    assert "declare another one by encoding" in wrong.output.replace("\n", " ")


NUMBERS = """post_id,date,num_likes,num_angrys
1,2026-09-10,"1,5",3
2,2026-09-10,"12,34",3
3,2026-09-10,"1,204",3
4,2026-09-10,"1,20,400",3
5,2026-09-10,1 204,3
6,2026-09-10,12.0,3
7,2026-09-10,2.5,3
8,2026-09-10,1.2K,3
9,2026-09-10,-4,3
10,2026-09-10,-,n/a
"""


def test_a_comma_parts_thousands_alone_and_what_is_no_count_is_set_aside(campaign):
    stopped = campaign.imported(NUMBERS)
    assert stopped.exit_code == 2
    assert "num_likes: expected a whole number: 5, such as row 2" in stopped.output
    assert campaign.events().empty
    campaign.declare("most_quarantined = 0.5")
    result = campaign.imported(NUMBERS)
    assert result.exit_code == 0
    assert n_counts(result) == (13, 0, 5)
    likes = campaign.events().query("kind == 'like'").set_index("post_id")["count"]
    assert likes.to_dict() == {"3": 1204, "5": 1204, "6": 12, "8": 1200}
    assert campaign.people()["angry"] == 27
    assert "rounded by the platform: 1" in result.output


def test_a_name_in_place_of_a_count_is_set_aside_by_its_look_alone(campaign):
    campaign.declare("most_quarantined = 0.5")
    rows = "1,2026-09-10,3,Pat Rivera\n2,2026-09-10,12 Main St,4\n"
    result = campaign.imported(f"post_id,date,num_likes,num_angrys\n{rows}")
    assert n_counts(result) == (2, 0, 2)
    store = Events.open(campaign.folder / "runs" / "sample" / "events.db")
    aside = store.quarantine()
    store.close()
    for said in (result.output, aside.to_csv()):
        assert "Rivera" not in said
        assert "Main" not in said
    assert aside["reason"].str.contains("a text of 1. characters").all()


def test_declared_decimals_turn_thousands_round(campaign):
    campaign.declare('decimal = ","\nmost_quarantined = 0.5')
    rows = "1;2026-09-10;1.204\n2;2026-09-10;7,0\n3;2026-09-10;1,5\n4;2026-09-10;1,2K\n"
    assert n_counts(campaign.imported(f"post_id;date;num_angrys\n{rows}")) == (3, 0, 1)
    assert campaign.people() == {"angry": 1204 + 7 + 1200}


WEEK = "post_id,publish_time,num_likes,num_angrys\np1,2026-09-07T10:00:00,{},{}\n"


def test_lifetime_totals_that_grow_count_as_growth(campaign):
    assert n_counts(campaign.imported(WEEK.format(10, 1))) == (2, 0, 0)
    friday = campaign.imported(WEEK.format(9, 400))
    assert n_counts(friday) == (1, 1, 0)
    assert "fallen: 1" in friday.output
    assert campaign.people() == {"like": 10, "angry": 400}
    grown = campaign.events().query("kind == 'angry'")
    assert sorted(grown["count"]) == [1, 399]
    # the growth came after Monday, not when the post was published
    assert grown["occurred_at"].max() > pd.Timestamp("2026-09-07 10:00")
    assert n_counts(campaign.imported(WEEK.format(9, 400))) == (0, 2, 0)
    assert n_counts(campaign.imported(WEEK.format(10, 401))) == (1, 1, 0)
    assert campaign.people() == {"like": 10, "angry": 401}


def test_totals_at_several_times_are_lifetime_or_daily_as_declared(campaign):
    rows = "p1,2026-09-01,4\np1,2026-09-02,6\n"
    for totals, people in (("lifetime", 6), ("daily", 10)):
        campaign.declare(f'totals = "{totals}"\nposts = {{x = "y"}}')
        result = campaign.imported(
            f"post_id,date,num_angrys\n{rows}", "--platform", totals
        )
        assert f'totals = "{totals}"' in result.output
        frame = campaign.events().query(f"platform == '{totals}'")
        assert frame["count"].sum() == people


def test_a_workbook_and_an_id_that_it_rounded(campaign, tmp_path):
    path = tmp_path / "book.xlsx"
    frame = pd.DataFrame(
        {"post_id": ["p1"], "date": [pd.Timestamp("2026-09-01 07:15")],
         "num_angrys": [1204]}
    )  # fmt: skip
    frame.to_excel(path, index=False)
    assert campaign.command("reactions", "import", path).exit_code == 0
    assert campaign.people() == {"angry": 1204}
    frame.assign(post_id=[122100000000000000]).to_excel(path, index=False)
    rounded = campaign.command("reactions", "import", path)
    assert rounded.exit_code == 2
    assert "spreadsheet" in rounded.output


def test_rows_that_are_cut_off_are_counted_and_kinds_that_nobody_knows_are_told(
    campaign,
):
    good = "".join(f"p{i},like,2026-09-01,3\n" for i in range(60))
    content = f"post_id,kind,date,n\n{good}p,love,2026-09-01\nq,poke,2026-09-01,2\n"
    result = campaign.imported(content)
    assert result.exit_code == 0, result.output
    assert n_counts(result) == (61, 0, 1)
    assert "expected 4 fields in a row: 1, such as row 62: got 3" in result.output
    assert "kind poke: 1" in result.output


def test_a_campaign_names_columns_that_nobody_knows(campaign):
    content = "beitrag,wann,wut\np1,2026-09-01,3\n"
    assert "'post_id', got beitrag" in campaign.imported(content).output.replace(
        "\n", " "
    )
    campaign.declare(
        'columns = {post_id = "beitrag", occurred_at = "wann"}\n'
        'counts = {wut = "angry"}'
    )
    assert campaign.imported(content).exit_code == 0
    assert campaign.people() == {"angry": 3}


BAD_NEWS = (
    "Reactions: Angry", "REACTION_ANGER", "Sorry reactions", "Dislikes", "Thumbs down",
    "hide_all_clicks", "Hide posts", "Report spam", "unlike_page_clicks", "Blocks",
    "Lifetime Negative Feedback Users", "Spam complaints", "Opt-outs", "Angry (paid)",
    "Care", "dislikeCount", "Not interested", "Reports",
)  # fmt: skip


def test_bad_news_is_counted_under_each_of_its_names(campaign):
    for i, name in enumerate(BAD_NEWS):
        result = campaign.imported(f"post_id,publish_time,{name}\np{i},2026-09-01,5\n")
        assert result.exit_code == 0, result.output
    frame = campaign.events()
    assert frame["count"].tolist() == [5] * len(BAD_NEWS)
    assert set(frame["kind"]) == {
        "angry", "sad", "dislike", "hide", "report_spam", "unfollow", "block",
        "negative_feedback", "complaint", "unsubscribe", "care",
    }  # fmt: skip


def test_ids_are_texts_as_they_are_written(campaign):
    rows = "007,2026-09-01,1\n12.0,2026-09-01,2\n1700000000000000001,2026-09-01,3\n"
    assert campaign.imported(f"post_id,date,num_angrys\n{rows}").exit_code == 0
    assert campaign.events()["post_id"].tolist() == ["007", "12", "1700000000000000001"]


def test_parts_of_a_whole_are_not_counted_twice(campaign):
    header = "post_id,publish_time,Likes,Paid likes,Organic likes,Paid shares"
    header += ",Organic shares,URL clicks,Link clicks,Likes (vs. dislikes),Page likes"
    result = campaign.imported(f"{header}\np,2026-09-01,10,4,6,1,2,8,8,99,500\n")
    assert campaign.people() == {"like": 10, "share": 3, "click": 8}
    assert "left out: Paid likes: counted in Likes" in result.output
    assert "left out: Page likes" in result.output


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"", "empty.csv"),
        (b"PK\x03\x04 no workbook", "book.xlsx"),
        (b"\x1f\x8b cut off", "export.csv.gz"),
        (b"\xff\xff{", "export.json"),
        (b"{", "export.json"),
        (b"[]", "export.json"),
    ],
)
def test_a_broken_file_is_refused_in_plain_words(campaign, content, name):
    result = campaign.imported(content, name=name)
    assert result.exit_code == 2, result.output
    assert "expected" in result.output


def test_no_words_of_a_cell_stand_in_a_message(campaign):
    rows = "p,Joan Elm,555-010-4477\n"
    result = campaign.imported(f"post_id,publish_time,num_angrys\n{rows}")
    assert result.exit_code == 2
    assert "Joan" not in result.output
    assert "4477" not in result.output


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('zone = "Mars"', "IANA time zone"),
        ('encoding = "utf-99"', "expected an encoding"),
        ('formats = ["%d/%m"]', "with a year"),
        ('totals = "weekly"', "lifetime"),
        ("most_quarantined = 2", "less than"),
        ('delimiter = ";;"', "should have at most"),
    ],
)
def test_a_wrong_declaration_of_exports_is_refused(campaign, line, expected):
    campaign.declare(line)
    result = campaign.imported(WEEK.format(1, 1))
    assert result.exit_code == 2
    assert expected in result.output.replace("\n", " "), result.output
