"""Alarms by webhook and by e-mail, as the campaign declares them.

An alert holds what the page shows and nothing else: messages, groups and shown counts,
no person. A failed delivery is logged without its address and delays nothing. Secrets
come from the environment.
"""

import json
import logging
import os
import smtplib
import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from http.client import HTTPException
from typing import Any, Literal

Json = Mapping[str, Any]

WEBHOOK_VARIABLE = "HUSTINGS_WEBHOOK"
"""Address of the webhook where that is a secret itself; the declared one gives way."""
WEBHOOK_TOKEN_VARIABLE = "HUSTINGS_WEBHOOK_TOKEN"
SMTP_USER_VARIABLE = "HUSTINGS_SMTP_USER"
SMTP_PASSWORD_VARIABLE = "HUSTINGS_SMTP_PASSWORD"
WAIT_S = 10.0
_CLOSED_DOORS = (OSError, smtplib.SMTPException, HTTPException, ValueError)
log = logging.getLogger("hustings.alerts")


@dataclass(frozen=True)
class Mail:
    """A server that takes e-mail.

    Attributes:
        host: Its name.
        port: Its port.
        security: `starttls`, `tls` from the start, or `none` on the same machine.
        sender: Address it comes from.
        to: Addresses it goes to.
    """

    host: str
    port: int
    security: Literal["starttls", "tls", "none"]
    sender: str
    to: tuple[str, ...]

    def send(self, subject: str, text: str) -> None:
        """Send a text to everybody."""
        letter = EmailMessage()
        letter["Subject"] = subject
        letter["From"] = self.sender
        letter["To"] = ", ".join(self.to)
        letter.set_content(text)
        secure = ssl.create_default_context()
        with (
            smtplib.SMTP_SSL(self.host, self.port, timeout=WAIT_S, context=secure)
            if self.security == "tls"
            else smtplib.SMTP(self.host, self.port, timeout=WAIT_S)
        ) as server:
            if self.security == "starttls":
                server.starttls(context=secure)
            user = os.environ.get(SMTP_USER_VARIABLE)
            if user:
                server.login(user, os.environ.get(SMTP_PASSWORD_VARIABLE, ""))
            server.send_message(letter)


@dataclass(frozen=True)
class Alerts:
    """Where alarms are sent.

    Attributes:
        campaign: Its name, for the subject.
        webhook: Address that takes the alarm as JSON; None for none.
        mail: Who gets e-mail; None for nobody.
    """

    campaign: str
    webhook: str | None = None
    mail: Mail | None = None

    @classmethod
    def declared(cls, campaign: str, section: Json | None) -> "Alerts":
        """Build from `[monitor.alerts]` and the environment; no recipient without."""
        if section is None:
            return cls(campaign)
        settings = dict(section)
        mail = None
        if settings.get("smtp_host"):
            mail = Mail(
                settings["smtp_host"], settings["smtp_port"], settings["smtp_security"],
                settings["mail_from"], tuple(settings["mail_to"]),
            )  # fmt: skip
        webhook = os.environ.get(WEBHOOK_VARIABLE) or settings.get("webhook")
        return cls(campaign, webhook, mail)

    def send(self, alarm: Json) -> list[str]:
        """Send an alarm by every declared way.

        Args:
            alarm: As `serving.monitor.snapshot.snapshot` shows it.

        Returns:
            The ways that failed.
        """
        ways = {
            "webhook": self._by_webhook if self.webhook else None,
            "e-mail": self._by_mail if self.mail else None,
        }
        failed = []
        for name, way in ways.items():
            if way is None:
                continue
            try:
                way(alarm)
            except _CLOSED_DOORS as failure:
                # its text may name an address
                kind = type(failure).__name__
                log.warning("an alert could not be sent by %s: %s", name, kind)
                failed.append(name)
        return failed

    def _by_webhook(self, alarm: Json) -> None:
        assert self.webhook is not None
        body = {"campaign": self.campaign, "text": alert_text(alarm), "alarm": alarm}
        headers = {"Content-Type": "application/json"}
        token = os.environ.get(WEBHOOK_TOKEN_VARIABLE)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if not self.webhook.startswith(("https://", "http://")):
            raise ValueError("expected a webhook's address as https://...")
        request = urllib.request.Request(
            self.webhook, json.dumps(body).encode(), headers, method="POST"
        )
        with urllib.request.urlopen(request, timeout=WAIT_S):
            pass

    def _by_mail(self, alarm: Json) -> None:
        assert self.mail is not None
        kind = alarm["kind"].replace("_", " ")
        subject = f"[{self.campaign}] {kind}: {alarm['message_id']}"
        self.mail.send(" ".join(subject.split()), alert_text(alarm))


def alert_text(alarm: Json) -> str:
    """An alarm in words."""
    sent, planned = alarm.get("sent") or {}, alarm.get("planned") or {}
    lines = [
        f"Message {alarm['message_id']} ({alarm['issue']})",
        alarm["text"],
        f"Since {alarm['since']}.",
        alarm.get("contradicts_lift"),
        f"Sent so far to {sent['n']:,} voters." if sent.get("n") else None,
        f"Planned for {planned['n']:,} voters, and not handed over yet."
        if planned.get("n")
        else None,
        "The message is paused." if alarm.get("paused") else None,
    ]
    return "\n".join(line for line in lines if line)
