"""``keys create``, ``list``, ``rotate`` and ``revoke``: the API keys of the gateway."""

from __future__ import annotations

import getpass
import re
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from core.clock import SystemClock, parse_moment
from core.errors import InvalidField, RequestError
from stack.commands.console import JsonOption, out, say_json, settings_of_command
from stack.preflight import require_writable

if TYPE_CHECKING:
    from serving.keys.audit import AdminAudit, Caller
    from serving.keys.issuer import Issued, Issuer
    from serving.keys.key import Key

KeyArgument = Annotated[str, typer.Argument(help="Id of the key, as `evergreen keys list` shows it.")]
_UNITS = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}
_DURATION = re.compile(r"(\d{1,9})(s|min|h|d)")
_Result = TypeVar("_Result")


def create(
    name: Annotated[str, typer.Argument(help="Who or what the key is for.")],
    scopes: Annotated[str, typer.Option(help="Some of predict, feedback, events, admin; with commas between.")],
    use_cases: Annotated[
        str, typer.Option(help="Use cases it is limited to, with commas between; all if left out.")
    ] = "",
    rate: Annotated[int | None, typer.Option(help="Most calls in a second.")] = None,
    quota: Annotated[int | None, typer.Option(help="Most calls in a day (UTC).")] = None,
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, 12h, or a moment, ISO 8601.")] = None,
    json: JsonOption = False,
) -> None:
    """Issue an API key. It is shown once: what is kept cannot show it again."""
    from serving.keys.issuer import Wish

    expires_at = _end(expires) if expires else None
    wish = Wish(name, _parts(scopes), _parts(use_cases), rate, quota, expires_at)
    issued = _carry_out("create_key", lambda issuer, by: issuer.create(wish, by))
    _show_issued(issued, json)


def list_keys(json: JsonOption = False) -> None:
    """Show all keys, those that ended included."""
    from rich.table import Table

    from serving.keys.issuer import described

    keys: list[Key] = _carry_out("list_keys", lambda issuer, by: issuer.keys(by))
    now = SystemClock().now()
    if json:
        say_json([described(key, now) for key in keys])
        return
    table = Table("id", "name", "state", "may", "per second", "per day", "ends", "replaced by", box=None)
    for key in keys:
        limits = (_shown(key.rate_per_s), _shown(key.quota_per_day))
        ends = key.revoked_at or key.expires_at
        end = f"{ends:%Y-%m-%d %H:%M}" if ends else "–"
        table.add_row(key.id, key.name, key.state(now), key.may, *limits, end, key.replaced_by or "–")
    out().print(table if keys else "There is no key yet. Create one with: evergreen keys create NAME --scopes …")


def rotate(
    key: KeyArgument,
    overlap: Annotated[str, typer.Option(help="How long the old key goes on to count: 24h, 30min, 0s.")] = "24h",
    json: JsonOption = False,
) -> None:
    """Issue a successor with the same rights. The old key ends by itself after the overlap."""
    duration = _duration("--overlap", overlap)
    _show_issued(_carry_out("rotate_key", lambda issuer, by: issuer.rotate(key, duration, by)), json)


def revoke(key: KeyArgument) -> None:
    """End a key. Every gateway refuses it within a second."""
    ended: Key = _carry_out("revoke_key", lambda issuer, by: issuer.revoke(key, by))
    out().print(f"The key {ended.id} of {ended.name} is revoked.", markup=False)


def _carry_out(action: str, work: Callable[[Issuer, Caller], _Result]) -> _Result:
    """Do it, and record it if it is refused; what is wrong with the arguments is wrong usage."""
    from serving.keys.audit import Caller

    by = Caller(f"{getpass.getuser()} (evergreen)"[:128])
    with _issuer() as (issuer, audit):
        try:
            return work(issuer, by)
        except RequestError as error:
            audit.refuse(action, by, error)
            if isinstance(error, InvalidField):
                raise typer.BadParameter(str(error)) from error
            raise


@contextmanager
def _issuer() -> Iterator[tuple[Issuer, AdminAudit]]:
    from core.discovery import discover
    from core.ledger import Ledger
    from serving.keys.audit import AdminAudit
    from serving.keys.issuer import Issuer
    from serving.keys.sql_store import SqlKeyStore

    settings, clock = settings_of_command(), SystemClock()
    if not settings.ledger.url:
        require_writable(settings.home)
    with closing(Ledger(settings.ledger_url)) as ledger, closing(SqlKeyStore(settings.ledger_url)) as store:
        ledger.migrate()
        audit = AdminAudit(ledger, clock)
        yield Issuer(store, audit, list(discover(settings.models_dir)), clock), audit


def _show_issued(issued: Issued, json: bool) -> None:
    from serving.keys.issuer import described

    key = issued.key
    if json:
        say_json({**described(key, SystemClock().now()), "api_key": issued.secret})
        return
    out().print(f"The key {key.id} for {key.name} may {key.may}. It is shown this once:", markup=False)
    out().print(issued.secret, markup=False, soft_wrap=True)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _end(text: str) -> datetime:
    try:
        if _DURATION.fullmatch(text):
            return SystemClock().now() + _duration("--expires", text)
        return parse_moment(text)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"--expires {text!r} is neither like 90d nor an ISO 8601 moment") from error


def _duration(option: str, text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{option} {text!r} is no duration such as 24h, 30min or 7d")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})


def _shown(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"
