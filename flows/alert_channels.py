"""Ways by which alerts reach people."""

from __future__ import annotations

import asyncio
import inspect
import json
import smtplib
import ssl
from email.message import EmailMessage
from typing import Protocol

import httpx

from core.errors import DependencyDown, EvergreenError, SettingsError
from core.settings import AlertSettings
from monitoring.alerts import PAGE, Alert

ALERTED = "evergreen.alert"


class Channel(Protocol):
    """Tells people of alerts; one that may or may not have got through is told again."""

    name: str

    def send(self, alert: Alert) -> None:
        """Tell of one.

        Raises:
            EvergreenError: if it did not get through.
        """
        ...


def channels_of(settings: AlertSettings) -> list[Channel]:
    """Prefect's events, and whatever else is set."""
    found: list[Channel] = [PrefectEvents(settings)]
    if settings.prefect_block:
        found.append(PrefectBlock(settings))
    if settings.webhook_url.get_secret_value():
        found.append(Webhook(settings))
    if settings.email_to:
        found.append(Email(settings))
    return found


def message(alert: Alert, settings: AlertSettings) -> str:
    """What is said of an alert, as plain text: why, where it is recorded, what to type."""
    link = settings.link.replace("{id}", str(alert.decision_id))
    recorded = f"Decision {alert.decision_id}{f': {link}' if link else ''}"
    return f"{alert.reason}\n{recorded}\nTo act: {alert.command}"


def headline(alert: Alert) -> str:
    """One line."""
    return " ".join(f"[{alert.severity}] {alert.use_case}: {alert.title}".split())


class PrefectEvents:
    """Emits ``evergreen.alert`` for Prefect's automations.

    Args:
        settings: how alerts are sent.
    """

    name = "prefect event"

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings

    def send(self, alert: Alert) -> None:
        """See Channel; an event without a server to take it is dropped by Prefect."""
        from prefect.events import emit_event

        emit_event(
            ALERTED,
            resource={
                "prefect.resource.id": f"evergreen.use-case.{alert.use_case}",
                "prefect.resource.name": alert.use_case,
                "evergreen.severity": alert.severity,
            },
            payload={**alert.as_json(), "message": message(alert, self._settings)},
        )


class PrefectBlock:
    """Notifies through a block that was set up in Prefect, e.g. ``slack-webhook/on-call``.

    Args:
        settings: which block.
    """

    name = "prefect block"

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings

    def send(self, alert: Alert) -> None:
        """See Channel."""
        from prefect.blocks.abstract import NotificationBlock
        from prefect.blocks.core import Block

        wanted = self._settings.prefect_block
        try:
            block = Block.load(wanted)
            if not isinstance(block, NotificationBlock):
                raise SettingsError(
                    f"EVERGREEN_ALERTS__PREFECT_BLOCK is {wanted!r}, which notifies nobody. Name a notification block."
                )
            with block.raise_on_failure():
                told: object = block.notify(message(alert, self._settings), headline(alert))
                if inspect.iscoroutine(told):  # only of blocks that know no synchronous way
                    asyncio.run(told)
        except EvergreenError:
            raise
        except Exception as error:  # whatever a block's service raises is that block's
            raise DependencyDown(f"The Prefect block {wanted}", f"{type(error).__name__}: {error}") from error


class Webhook:
    """Posts to an incoming webhook as Slack has them; Mattermost, Rocket.Chat and Teams' workflows take the same.

    Source: Slack, "Sending messages using incoming webhooks".

    Args:
        settings: its address.
    """

    name = "webhook"

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings

    def send(self, alert: Alert) -> None:
        """See Channel. The address is a secret, so no error names it."""
        said = f"*{_escaped(headline(alert))}*\n{_escaped(message(alert, self._settings))}"
        body = json.dumps({"text": f"<!channel> {said}" if alert.severity == PAGE else said})
        try:
            answer = httpx.post(
                self._settings.webhook_url.get_secret_value(),
                content=body,
                headers={"Content-Type": "application/json"},
                timeout=self._settings.timeout_s,
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise DependencyDown("The alert webhook", type(error).__name__) from None
        if not answer.is_success:
            raise DependencyDown("The alert webhook", f"HTTP {answer.status_code}")


class Email:
    """Sends mail over SMTP.

    Args:
        settings: the server and the addresses.
    """

    name = "e-mail"

    def __init__(self, settings: AlertSettings) -> None:
        self._settings = settings

    def send(self, alert: Alert) -> None:
        """See Channel."""
        settings, mail = self._settings, EmailMessage()
        try:
            mail["Subject"] = headline(alert)
            mail["From"], mail["To"] = settings.email_from, settings.email_to
            mail.set_content(message(alert, settings))
            with self._connected() as server:
                if settings.smtp_user:
                    server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
                server.send_message(mail)
        except (OSError, ValueError, smtplib.SMTPException) as error:
            where = f"The mail server {settings.smtp_host}:{settings.smtp_port}"
            raise DependencyDown(where, f"{type(error).__name__}: {error}") from error

    def _connected(self) -> smtplib.SMTP:
        settings, context = self._settings, ssl.create_default_context()
        host, port, timeout_s = settings.smtp_host, settings.smtp_port, settings.timeout_s
        if settings.smtp_tls == "tls":
            return smtplib.SMTP_SSL(host, port, timeout=timeout_s, context=context)
        server = smtplib.SMTP(host, port, timeout=timeout_s)
        if settings.smtp_tls == "starttls":
            try:
                server.starttls(context=context)
            except BaseException:
                server.close()
                raise
        return server


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
