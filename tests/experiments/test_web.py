"""`hustings web`: a day's work by clicks, and what is refused, on a real server."""

import hashlib
import html
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pandas as pd
import pytest
from playwright.sync_api import Page
from typer.testing import CliRunner

from hustings.experiments.cli import app
from hustings.experiments.plans import plans
from hustings.experiments.plans.folder import one_command
from hustings.experiments.plans.ledger import open_ledger
from hustings.experiments.status import CampaignStatus, status_text
from hustings.experiments.web.page_facts import pages_on_file
from hustings.experiments.web.scoring import Scoring
from hustings.experiments.web.sessions import LONGEST, Sessions
from hustings.features.checksums import write_checksums
from hustings.serving.keys import MOST_FAILURES, Keys
from tests.browser import CHROMIUM, browser_page, look_at, require_accessible
from tests.experiments.test_plan_steps import drafted
from tests.servers import free_port, serving
from tests.story import Story

KEY = "a-key-of-the-tests-of-22-letters"
NOW = pd.Timestamp.now("UTC")
ROLES = {
    "R. Approver": ("approve", "watch"),
    "Ada": ("watch",),
    "Ben": ("pause", "watch"),
    "Pia Privacy": ("privacy",),
    "vendor app": ("ingest",),
    "leaver": ("watch",),
}
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>{{ 7 * 7 }}'
NUMBER = re.compile(r"\d[\d,.:-]*\d|\d")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


def key_of(name: str) -> str:
    return "-".join([name.replace(" ", "-")] * 8)


def write_keys(path: Path, *names: str) -> None:
    lines = [
        {"name": name, "roles": ROLES[name],
         "sha256": hashlib.sha256(key_of(name).encode()).hexdigest()}
        for name in names
    ]  # fmt: skip
    path.write_text(json.dumps({"keys": lines}))


@dataclass(frozen=True)
class Site:
    """A running `hustings web`.

    Attributes:
        url: Its address.
        home: The campaign's folder.
        options: `--campaign` and `--data` of commands.
        keys: File of the keys.
        log: What the server said.
        first: The plan that the run drafted.
    """

    url: str
    home: Path
    options: tuple[str, ...]
    keys: Path
    log: Path
    first: str

    @contextmanager
    def signed_in(self, name: str) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, timeout=60.0) as client:
            answer = sign_in(client, key_of(name) if name in ROLES else name)
            assert answer.status_code == 303, answer.text
            yield client

    def said(self, *words: str) -> str:
        result = CliRunner().invoke(app, [*words, *self.options])
        assert result.exit_code == 0, result.output
        return result.output


def sign_in(client: httpx.Client, key: str, **headers: str) -> httpx.Response:
    fields = {"form_token": token_of(client.get("/login").text), "key": key}
    return client.post("/login", data=fields, headers=headers)


def token_of(page: str) -> str:
    found = re.search(r'name="form_token" value="([0-9a-f]{64})"', page)
    assert found is not None, page
    return found[1]


def post(
    client: httpx.Client, path: str, page: str = "", **fields: str
) -> httpx.Response:
    """Send a form as the browser does: with the token of the page that it is on."""
    token = token_of(client.get(page or "/requests").text)
    return client.post(path, data={"form_token": token, **fields})


@pytest.fixture(scope="module")
def site(story: Story, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    there = tmp_path_factory.mktemp("web")
    runs, port, keys = there / "runs", free_port(), there / "keys.json"
    shutil.copytree(story.run.home, runs / story.run.home.name)
    home = runs / story.run.home.name
    plan_json = home / "serving" / "plan.json"
    plan = json.loads(plan_json.read_text())
    plan["rules"]["messages"][0]["text"] = HOSTILE
    plan_json.write_text(json.dumps(plan))
    write_checksums(home / "serving")
    write_keys(keys, *ROLES)
    options = ("--campaign", str(story.folder), "--data", str(runs))
    code = "from hustings.experiments.cli import main; main()"
    command = [sys.executable, "-c", code, "web", *options, "--port", str(port),
               "--store", str(there / "mlflow")]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    (first,) = plans(home)

    def ready() -> bool:
        try:
            return httpx.get(f"{url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    env = {**os.environ, "HUSTINGS_API_KEY": KEY, "HUSTINGS_KEYS": str(keys),
           "HUSTINGS_LINK_KEY": "a-secret-of-the-tests-of-32-bytes"}  # fmt: skip
    with serving(command, ready=ready, home=there, env=env):
        yield Site(url, home, options, keys, there / "server.log", first)


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with browser_page() as opened:
        yield opened


# --- what a page says -----------------------------------------------------------------


def numbers(text: str) -> set[str]:
    return {number.strip(",.:-") for number in NUMBER.findall(text)}


def main_text(page: str) -> str:
    inside = page.split("<main")[1].split("</main>")[0].partition(">")[2]
    return html.unescape(re.sub(r"<[^>]*>", " ", inside))


def test_every_number_of_today_is_that_of_status(site: Site) -> None:
    with site.signed_in("Ada") as client:
        page = main_text(client.get("/today").text)
    status = CampaignStatus.from_json(json.loads(site.said("status", "--json")))
    text = status_text(status)
    moment = re.search(r"\d{4}-\d\d-\d\d \d\d:\d\d", page)
    assert moment is not None
    as_of = numbers(moment[0]) | numbers(status.as_of[:16].replace("T", " "))
    assert numbers(page) - as_of == numbers(text) - as_of - numbers("none")
    for one in status.due:
        assert one.why in page
        assert f"waits for {one.waits_for}" in page


def test_a_plan_s_page_says_what_plans_diff_says(site: Site) -> None:
    said = site.said("plans", "diff", site.first).replace(site.first, "")
    with site.signed_in("Ada") as client:
        page = client.get(f"/plans/{site.first}").text
        listed = main_text(client.get("/plans").text)
    shown = numbers(main_text(page))
    assert numbers(said) <= shown
    (line,) = site.said("plans", "list").splitlines()
    line = line.replace("T", " ")
    assert numbers(line) <= numbers(listed)
    # nobody but who may approve is offered the forms
    assert "approve" not in page.replace("approved", "").split("</main>")[0].lower()


def test_the_report_is_the_file_that_the_run_wrote(site: Site) -> None:
    with site.signed_in("Ada") as client:
        answer = client.get("/reports/report")
        assert "/reports/report" in client.get("/reports").text
        missing = client.get("/reports/ledger.db")
    assert answer.content == (site.home / "first" / "report.html").read_bytes()
    assert "script-src" not in answer.headers["content-security-policy"]
    assert missing.status_code == 404


# --- a day's work ---------------------------------------------------------------------


WHOLE = """() => {
  const all = (selector) => [...document.querySelectorAll(selector)];
  return [
    document.documentElement.scrollWidth <= innerWidth,
    all("script, [onclick], [style]").length === 0,
    all("table").every((table) => table.querySelector("th[scope]")),
  ];
}"""
"""Nothing is cut, nothing runs or is styled inside, and tables have heads."""


def require_readable(page: Page) -> None:
    require_accessible(page)
    assert page.evaluate(WHOLE) == [True, True, True], page.url


def enter(page: Page, site: Site, key: str) -> None:
    page.goto(f"{site.url}/login")
    page.fill("#key", key)
    page.click("main button")


def test_every_page_is_readable_at_both_widths_in_light_and_dark(
    site: Site, page: Page
) -> None:
    page.goto(f"{site.url}/login")
    require_readable(page)
    enter(page, site, KEY)  # the operator may look at everything
    for path in ("today", "plans", f"plans/{site.first}", "week", "lift", "power",
                 "reports", "messages", "requests", "plans/none"):  # fmt: skip
        page.goto(f"{site.url}/{path}")
        for width, dark in product((1280, 390), (False, True)):
            look_at(page, width, dark=dark)
            require_readable(page)
    look_at(page, 1280)
    # the first stop of the keyboard leads past the links, and is seen
    page.goto(f"{site.url}/today")
    page.keyboard.press("Tab")
    focus = page.evaluate(
        "[document.activeElement.getAttribute('href'), "
        "document.activeElement.getBoundingClientRect().x >= 0, "
        "getComputedStyle(document.activeElement).outlineStyle]"
    )
    assert focus == ["#main", True, "solid"]
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Today"
    page.click("form.who button")


def test_a_day_s_work_takes_nothing_but_clicks(site: Site, page: Page) -> None:
    look_at(page, 1280)
    errors: list[str] = []
    page.on(
        "console", lambda said: errors.append(said.text) if said.type == "error" else 0
    )
    page.on("pageerror", lambda failure: errors.append(str(failure)))
    page.goto(f"{site.url}/")
    assert page.inner_text("h1") == "Sign in"
    enter(page, site, key_of("R. Approver"))
    assert page.inner_text("h1") == "Today"
    page.click(f"main a[href='/plans/{site.first}']")
    assert page.inner_text("h1") == f"Plan {site.first}"
    page.click("a[href='#decide']")
    page.check("#read")
    page.click("#approve")
    assert page.inner_text("#state").lower() == "approved"
    page.click("#lock")
    assert page.inner_text("#state").lower() == "locked"
    page.click("a[href='/today']")
    assert "to export" in page.inner_text("main")
    page.click("form.who button")
    assert page.inner_text("h1") == "Sign in"
    page.goto(f"{site.url}/plans")
    assert page.inner_text("h1") == "Sign in"
    assert errors == []
    steps = plans(site.home)[site.first].steps
    assert [(step.to, step.body.get("by")) for step in steps[1:]] == [
        ("approved", "R. Approver"), ("locked", "R. Approver"),
    ]  # fmt: skip


def test_small_groups_of_a_diff_are_rounded_and_a_rejection_has_a_reason(
    site: Site,
) -> None:
    drafted(site.home, "day1", model="hustings-x/3", budget_usd=None)
    said = site.said("plans", "diff", "day1").replace("day1", "")
    with site.signed_in("R. Approver") as client:
        page = client.get("/plans/day1").text
        shown = numbers(main_text(page))
        assert numbers(said) <= shown
        assert "8 contacts" in main_text(page)
        # of eight contacts no group of fewer than twenty is counted
        assert "trade" not in page.split('id="changes"')[1].split('id="decide"')[0]
        compared = client.get("/plans/day1", params={"against": site.first}).text
        assert "/approve" not in compared
        unread = post(client, "/plans/day1/approve", "/plans/day1", seen="0" * 64)
        assert unread.status_code == 422
        other = post(
            client, "/plans/day1/approve", "/plans/day1", seen="0" * 64, read="yes"
        )
        assert other.status_code == 409
        assert "read them again" in other.text
        early = post(client, "/plans/day1/lock", "/plans/day1")
        assert early.status_code == 409
        assert "to be locked, expected it to be approved, got draft" in early.text
        silent = post(client, "/plans/day1/reject", "/plans/day1", why=" ")
        assert silent.status_code == 422
        post(client, "/plans/day1/reject", "/plans/day1", why=HOSTILE)
        after = client.get("/plans/day1").text
    step = plans(site.home)["day1"].steps[-1]
    assert (step.to, step.body["by"], step.body["why"]) == (
        "rejected", "R. Approver", HOSTILE,
    )  # fmt: skip
    assert HOSTILE not in after
    assert "&lt;script&gt;alert(2)" in after


# --- the monitor ----------------------------------------------------------------------


def test_a_message_is_paused_and_resumed_in_the_person_s_name(site: Site) -> None:
    with site.signed_in("Ben") as client:
        page = client.get("/messages").text
        assert HOSTILE not in page
        assert "&lt;script&gt;alert(2)&lt;/script&gt;{{ 7 * 7 }}" in page
        name = re.findall(r'name="message_id" value="([a-z_]+)"', page)[0]
        unknown = post(
            client, "/messages/pause", "/messages", message_id="none", why="x"
        )
        assert unknown.status_code == 404
        post(client, "/messages/pause", "/messages", message_id=name, why=HOSTILE)
        paused = client.get("/messages").text
        assert "Paused by Ben" in paused
        assert HOSTILE not in paused
        assert [one["message_id"] for one in look(site)["paused_unheard"]] == [name]
        none = main_text(client.get("/messages?search=no+such+words").text)
        assert "0 of 4 messages" in none
        today = client.get("/today").text
        post(client, "/messages/resume", "/messages", message_id=name, why="calm again")
        assert "Paused by Ben" not in client.get("/messages").text
    assert f"{name}: " in main_text(today)


def test_a_pause_takes_nothing_but_clicks(site: Site, page: Page) -> None:
    look_at(page, 390)
    enter(page, site, key_of("Ben"))
    page.click("a[href='/messages']")
    card = page.locator("article").first
    for word in ("Pause", "Resume"):
        card.locator("details").last.locator("summary").click()
        card.locator("input[name=why]").fill("angry replies")
        card.locator("details").last.locator("button").click()
        said = page.locator("article").first.inner_text()
        assert ("Paused by Ben" in said) == (word == "Pause")
    # the hostile text is a text: nothing was loaded or run for it
    assert page.evaluate("document.images.length + document.scripts.length") == 0
    page.click("form.who button")


def look(site: Site) -> dict[str, Any]:
    """The monitor as the mounted endpoint gives it to a program."""
    headers = {"Authorization": f"Bearer {key_of('Ben')}"}
    seen: dict[str, Any] = httpx.get(f"{site.url}/monitor", headers=headers).json()
    return seen


def test_counts_of_the_monitor_s_page_are_those_of_the_endpoint(site: Site) -> None:
    events = [
        {"event_id": f"e{i}", "message_id": "jobs_paychecks", "platform": "facebook",
         "kind": "angry" if i % 3 == 0 else "like", "person": f"someone-{i}",
         "occurred_at": (NOW - pd.Timedelta(minutes=i)).isoformat()}
        for i in range(240)
    ]  # fmt: skip
    headers = {"Authorization": f"Bearer {key_of('vendor app')}"}
    sent = httpx.post(f"{site.url}/reactions", json={"events": events}, headers=headers)
    assert sent.status_code == 200, sent.text
    until = time.monotonic() + 60
    while not look(site)["messages"]:
        assert time.monotonic() < until
        time.sleep(0.2)
    (row,) = look(site)["messages"]
    with site.signed_in("Ada") as client:
        page = client.get("/messages").text
    (article,) = (
        main_text(f"<main>{part}</main>")
        for part in page.split("<article")
        if "jobs_paychecks" in part
    )
    rate = row["rate"]
    counts = f"{row['good']} Bad {row['bad']} Neutral – Set apart –"
    assert row["good"] > row["bad"] > 0
    assert counts in " ".join(article.split())
    shares = [f"{100 * rate[name]:.0f} %" for name in ("rate", "low", "high")]
    assert "{} {} to {}".format(*shares) in " ".join(article.split())


# --- requests -------------------------------------------------------------------------


def test_a_voter_is_shown_and_forgotten_and_no_log_names_them(site: Site) -> None:
    scores = site.home / "first" / "scores.parquet"
    voter = str(pd.read_parquet(site.home / "first" / "plan.parquet")["voter_id"][7])
    columns = ["voter_id", "household_id", "state", "precinct", "party"]
    voters = pd.read_parquet(site.home / "first" / "tables" / "voters.parquet")
    facts = voters.set_index("voter_id", drop=False).loc[voter, columns]
    with site.signed_in("Pia Privacy") as client:
        page = post(client, "/requests/show", voter=voter).text
        assert f"Held on {voter}:" in page
        for name, value in facts.items():
            assert f"    {name}: {value}\n" in page
        assert f"plan {site.first}, state" in page
        sure = post(client, "/requests/sure", voter=voter).text
        assert "cannot be undone" in sure
        # before anything is deleted: who else was given something of the person
        assert "Already in plans, so perhaps with whoever carries them out" in sure
        assert f"plan {site.first}, " in sure.partition("Already in plans")[2]
        unsure = post(client, "/requests/forget", voter=voter)
        assert unsure.status_code == 422
        assert voter in set(pd.read_parquet(scores)["voter_id"])
        done = post(client, "/requests/forget", voter=voter, sure="yes")
        assert done.status_code == 200
        assert "The ledger says so in entry" in done.text
        assert voter not in done.text
    assert voter not in set(pd.read_parquet(scores)["voter_id"])
    assert voter not in site.log.read_text()


# --- refusals -------------------------------------------------------------------------


def test_each_role_opens_its_own_pages_and_forms_alone(site: Site) -> None:
    head = open_ledger(site.home).head
    pages = {
        "Ada": ["/today", "/plans", "/reports", "/messages"],
        "Ben": ["/today", "/plans", "/reports", "/messages"],
        "R. Approver": ["/today", "/plans", "/reports", "/messages"],
        "Pia Privacy": ["/requests"],
    }
    forms = {
        f"/plans/{site.first}/approve": "R. Approver",
        f"/plans/{site.first}/reject": "R. Approver",
        f"/plans/{site.first}/lock": "R. Approver",
        "/messages/pause": "Ben",
        "/messages/resume": "Ben",
        "/requests/show": "Pia Privacy",
        "/requests/sure": "Pia Privacy",
        "/requests/forget": "Pia Privacy",
    }
    for name, opened in pages.items():
        with site.signed_in(name) as client:
            for path in {one for paths in pages.values() for one in paths}:
                answer = client.get(path)
                assert answer.status_code == (200 if path in opened else 403), path
            token = token_of(client.get(opened[0]).text)
            for path, may in forms.items():
                if name != may:
                    fields = {"form_token": token, "voter": "V1", "why": "x"}
                    refused = client.post(path, data=fields)
                    assert refused.status_code == 403, path
                    assert (
                        "expected a key with the role"
                        in html.unescape(refused.text).lower()
                    )
    assert open_ledger(site.home).head == head
    with httpx.Client(base_url=site.url) as client:
        assert sign_in(client, key_of("vendor app")).status_code == 403
        assert client.get("/today").headers["location"] == "/login"


def test_the_operator_looks_and_signs_nothing(site: Site) -> None:
    with site.signed_in(KEY) as client:
        answer = post(client, f"/plans/{site.first}/lock", "/today")
        assert answer.status_code == 403
        assert "a key of your own" in answer.text
        sure = {"voter": "V0000001", "sure": "yes"}
        assert post(client, "/requests/forget", "/requests", **sure).status_code == 403


def test_a_form_of_another_site_or_session_is_refused(site: Site) -> None:
    head = open_ledger(site.home).head
    with site.signed_in("R. Approver") as client, site.signed_in("Ada") as other:
        path = f"/plans/{site.first}/reject"
        foreign = token_of(other.get("/today").text)
        own = token_of(client.get("/today").text)
        for fields, headers in (
            ({}, {}),
            ({"form_token": foreign}, {}),
            ({"form_token": own}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            data = {"why": "x", **fields}
            answer = client.post(path, data=data, headers=headers)
            assert answer.status_code == 403
            assert (
                client.post("/logout", data=fields, headers=headers).status_code == 403
            )
        assert client.get("/today").status_code == 200
        large = client.post(path, data={"form_token": own, "why": "x" * 70_000})
        assert large.status_code == 413
    assert open_ledger(site.home).head == head
    bare = httpx.post(f"{site.url}/login", data={"key": key_of("Ada")})
    assert bare.status_code == 403


def test_a_session_ends_with_its_cookie_key_and_time(site: Site) -> None:
    with site.signed_in("Ada") as client:
        cookie = client.cookies["hustings_session"]
        post(client, "/logout", "/today")
        again = {"Cookie": f"hustings_session={cookie}"}
        assert client.get("/today", headers=again).status_code == 303
        ended = client.post("/messages/pause", headers=again, data={"why": "x"})
        assert ended.status_code == 401
        forged = {"Cookie": f"hustings_session={cookie.split('.')[0]}.{'0' * 64}"}
        assert client.get("/today", headers=forged).status_code == 303
    with site.signed_in("leaver") as client:
        assert client.get("/today").status_code == 200
        write_keys(site.keys, *(name for name in ROLES if name != "leaver"))
        assert client.get("/today").status_code == 303


def test_a_quiet_session_ends_and_a_busy_one_after_a_working_day() -> None:
    sessions = Sessions(Keys(KEY, None), idle=pd.Timedelta(minutes=30))
    # the sign-in form's cookie is from here, and no session's
    assert not sessions.is_open(sessions.signed("the form's"))
    began = pd.Timestamp("2026-09-08T08:00:00Z")
    cookie, at = sessions.sign_in(KEY.encode(), began), began
    while at - began + pd.Timedelta(minutes=30) <= LONGEST:
        at += pd.Timedelta(minutes=30)
        assert sessions.of(cookie, at) is not None
    assert sessions.of(cookie, at + pd.Timedelta(minutes=1)) is None
    quiet = sessions.sign_in(KEY.encode(), began)
    assert sessions.of(quiet, began + pd.Timedelta(minutes=31)) is None
    assert sessions.of(quiet, began) is None


def test_wrong_keys_are_logged_and_slowed(site: Site) -> None:
    wrong = "a-wrong-key-that-nobody-was-given"
    # as a proxy on this machine says who asks
    headers = {"X-Forwarded-For": "192.0.2.7"}
    with httpx.Client(base_url=site.url) as client:
        assert sign_in(client, wrong, **headers).status_code == 401
        assert "hustings_session" not in client.cookies
        token = token_of(client.get("/login").text)
        form = {"Cookie": f"hustings_form={client.cookies['hustings_form']}"}
    body = urlencode({"form_token": token, "key": wrong})
    statuses, server = [], HTTPConnection(site.url.removeprefix("http://"))
    with closing(server):
        for _ in range(MOST_FAILURES):
            server.request("POST", "/login", body, headers | form)
            answer = server.getresponse()
            answer.read()
            statuses.append(answer.status)
    assert set(statuses) == {401, 429}
    assert statuses[-1] == 429
    log = site.log.read_text()
    assert "a wrong key from 192.0.2.7" in log
    for secret in (wrong, KEY, *map(key_of, ROLES), token):
        assert secret not in log


def test_headers_let_nothing_run_and_nothing_be_kept(site: Site) -> None:
    with site.signed_in("Ada") as client:
        answer = client.get("/today")
        cookies = sign_in(client, key_of("Ada")).headers.get_list("set-cookie")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'")
    assert "script-src" not in policy
    assert "unsafe" not in policy
    assert answer.headers["cache-control"] == "no-store"
    session = next(c for c in cookies if c.startswith("hustings_session="))
    assert "HttpOnly" in session
    assert "SameSite=strict" in session
    assert "Max-Age=43200" in session
    assert key_of("Ada") not in answer.text + session


def test_another_command_at_work_is_said(site: Site) -> None:
    at = pd.Timestamp("2026-09-08T08:00:00Z")
    with site.signed_in("R. Approver") as client:
        with one_command(site.home, "day", at=at):
            assert client.get("/today").status_code == 200
            answer = post(client, f"/plans/{site.first}/lock", "/today")
        assert answer.status_code == 409
        assert "`hustings day`" in answer.text
        assert "nothing was done" in answer.text


# --- the endpoint beside it -----------------------------------------------------------


def test_the_scoring_routes_answer_beside_the_pages(site: Site) -> None:
    assert httpx.get(f"{site.url}/model").status_code == 401
    bearer = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=site.url, headers=bearer, timeout=60.0) as client:
        model: dict[str, Any] = client.get("/model").json()
        assert model["name"] == "hustings-spread"
        assert client.get("/readyz").status_code == 200
        # a session opens no route of programs
        assert client.post("/score", json={"voters": []}).status_code == 422
        assert "`hustings serve` shows" in client.get("/docs").text
    with site.signed_in("R. Approver") as person:
        assert person.post("/pause", json={}).status_code == 401


def test_a_bundle_that_could_not_be_read_is_tried_again_and_said(
    story: Story, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(story.run.home / "serving", tmp_path / "serving")
    monkeypatch.setenv("HUSTINGS_API_KEY", KEY)
    opened: list[Path] = []

    def open_bundle(bundle: Path) -> Any:
        opened.append(bundle)
        if len(opened) == 1:
            raise OSError("the store is gone")
        return "the monitor"

    monkeypatch.setattr("hustings.serving.service.open_bundle", open_bundle)
    monkeypatch.setattr("hustings.experiments.web.scoring.AGAIN_S", 0.0)
    scoring = Scoring(tmp_path, Keys(KEY, None))
    scoring.refresh()
    assert (scoring.watch, scoring.fault) == (None, "OSError")
    scoring.refresh()
    assert (scoring.watch, scoring.fault) == ("the monitor", "")
    scoring.refresh()
    assert len(opened) == 2


def test_week_lift_and_power_are_those_of_the_commands_files(
    site: Site, story: Story, page: Page, tmp_path: Path
) -> None:
    files = {name: tmp_path / f"{name}.html" for name in ("lift", "power")}
    store = ("--store", str(story.run.store))
    for name, path in files.items():
        site.said(name, *store, "--out", str(path))
    files["week"] = Path(site.said("week").strip().splitlines()[-1])
    with site.signed_in("Ada") as client:
        shown = {name: client.get(f"/{name}").text for name in files}
        week = client.get(f"/reports/{files['week'].stem}")
        assert "a day as 2026-09-08" in client.get("/week?last=06.12.2026").text
        earlier = client.get("/week?last=2020-01-07").text
    assert week.content == files["week"].read_bytes()
    for name, path in files.items():
        body = path.read_text().split("<main>")[1].split("</main>")[0]
        assert body in shown[name], name
    assert "1 Jan 2020 to 7 Jan 2020" in earlier
    lift = json.loads((site.home / "lift.json").read_text())
    assert all(one in html.unescape(shown["lift"]) for one in lift["sentences"])
    assert pages_on_file(story.run).lift is None  # what the story holds is untouched
    enter(page, site, KEY)
    page.click("nav >> text=Lift")
    look_at(page, 390)
    require_readable(page)
    look_at(page, 1280)
    page.click("form.who button")


def test_without_a_key_nothing_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUSTINGS_API_KEY", raising=False)
    result = CliRunner().invoke(app, ["web", "--campaign", "sample"])
    assert result.exit_code == 2
    assert "expected an API key" in result.output
