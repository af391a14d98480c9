"""Alerts reach a real server of each kind, and say nothing that nobody may know."""

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_string, policy
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from hustings.serving.monitor.alerts import (
    WEBHOOK_TOKEN_VARIABLE,
    WEBHOOK_VARIABLE,
    Alerts,
    Mail,
    alert_text,
)

ALARM = {
    "message_id": "bridge", "issue": "roads", "kind": "backlash",
    "since": "2026-09-01T09:00:00+00:00", "raised": "2026-09-01T10:00:00+00:00",
    "whole": True, "segments": [], "text": "Bad news is 50 % of what is heard.",
    "contradicts_lift": "The randomised test says otherwise.",
    "sent": {"n": 1_240, "by_segment": {}, "by_county": {}}, "paused": True,
}  # fmt: skip


@contextmanager
def serving(server: Any) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def webhook(
    taken: list[tuple[dict[str, str], Any]], status: int = 200
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append((dict(self.headers), json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            pass

    with serving(HTTPServer(("127.0.0.1", 0), Handler)) as port:
        yield f"http://127.0.0.1:{port}/hook"


@contextmanager
def post_office(letters: list[str]) -> Iterator[int]:
    """As much of SMTP as a client needs: it keeps what it is given."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            while line := self.rfile.readline().decode().strip():
                word = line.split()[0].upper()
                if word == "DATA":
                    self.say("354 go on")
                    letters.append(self.letter())
                    self.say("250 kept")
                elif word == "QUIT":
                    self.say("221 bye")
                    return
                else:
                    self.say("250 fine")

        def letter(self) -> str:
            lines = iter(lambda: self.rfile.readline().decode(), ".\r\n")
            return "".join(lines)

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)) as port:
        yield port


def mail(port: int) -> Mail:
    return Mail("127.0.0.1", port, "none", "desk@example.org", ("ada@example.org",))


def test_a_webhook_takes_the_alarm_with_the_token_of_the_environment(monkeypatch):
    monkeypatch.setenv(WEBHOOK_TOKEN_VARIABLE, "a-token")
    taken: list[Any] = []
    with webhook(taken) as url:
        assert Alerts("spread", webhook=url).send(ALARM) == []
    ((headers, body),) = taken
    assert headers["Authorization"] == "Bearer a-token"
    assert body["alarm"] == ALARM
    assert body["campaign"] == "spread"


def test_an_e_mail_says_which_message_why_and_to_how_many():
    letters: list[str] = []
    with post_office(letters) as port:
        assert Alerts("spread", mail=mail(port)).send(ALARM) == []
    letter = message_from_string(letters[0], policy=policy.default)
    assert letter["Subject"] == "[spread] backlash: bridge"
    assert letter["To"] == "ada@example.org"
    text = letter.get_content()
    for said in (ALARM["text"], ALARM["contradicts_lift"], "1,240 voters", "paused"):
        assert said in text


def test_a_closed_door_is_told_without_its_address_and_holds_up_no_other(caplog):
    letters: list[str] = []
    with webhook([], status=500) as url, post_office(letters) as port:
        failed = Alerts("spread", webhook=url, mail=mail(port)).send(ALARM)
    assert failed == ["webhook"]
    assert len(letters) == 1
    nobody = Mail("127.0.0.1", 1, "none", "desk@example.org", ("ada@example.org",))
    assert Alerts("spread", mail=nobody).send(ALARM) == ["e-mail"]
    assert "could not be sent" in caplog.text
    assert "example.org" not in caplog.text
    assert "127.0.0.1" not in caplog.text


def test_a_line_break_in_a_message_id_adds_no_header():
    letters: list[str] = []
    with post_office(letters) as port:
        Alerts("spread", mail=mail(port)).send(
            {**ALARM, "message_id": "a\r\nBcc: eve@example.org"}
        )
    assert message_from_string(letters[0])["Bcc"] is None


def test_what_is_declared_is_what_is_used(monkeypatch):
    told = {
        "webhook": None, "smtp_host": "mail.example.org", "smtp_port": 587,
        "smtp_security": "starttls", "mail_from": "desk@example.org",
        "mail_to": ["ada@example.org"],
    }  # fmt: skip
    assert Alerts.declared("spread", told).mail == Mail(
        "mail.example.org", 587, "starttls", "desk@example.org", ("ada@example.org",)
    )
    assert Alerts.declared("spread", None) == Alerts("spread")
    monkeypatch.setenv(WEBHOOK_VARIABLE, "https://example.org/secret")
    assert Alerts.declared("spread", told).webhook == "https://example.org/secret"
    assert Alerts.declared("spread", None) == Alerts("spread")


def test_a_webhook_that_is_a_file_is_never_opened():
    assert Alerts("spread", webhook="file:///etc/hostname").send(ALARM) == ["webhook"]


@pytest.mark.parametrize("sent", [None, {"n": 0, "by_segment": {}, "by_county": {}}])
def test_an_alert_without_anybody_sent_is_whole(sent):
    text = alert_text({**ALARM, "sent": sent, "contradicts_lift": None})
    assert "Sent" not in text
    assert "None" not in text
