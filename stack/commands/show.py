"""``features show``: what is kept online of an entity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stack.commands.console import (
    JsonOption,
    UseCaseArgument,
    ago,
    declared_use_case,
    err,
    out,
    say_json,
    settings_of_command,
)

if TYPE_CHECKING:
    from core.use_case import Field, UseCase
    from features.online.inspection import Shown

_TIMEOUT_S = 5.0


def show(
    use_case: UseCaseArgument,
    entity: Annotated[list[str], typer.Argument(help="Entity fields, each as NAME=VALUE, e.g. pickup_zone=161.")],
    json: JsonOption = False,
) -> None:
    """Print what is kept online of an entity: values, their age and source, and how fresh each view is."""
    from core.clock import SystemClock
    from features.connection import connect
    from features.online.inspection import freshness
    from features.online.inspection import show as look_at
    from features.streams import Keys

    settings = settings_of_command()
    declared = declared_use_case(settings, use_case)
    wanted, keys, partitions = _entity(declared, entity), Keys(settings.redis.namespace), settings.stream.partitions
    timeouts = {"socket_timeout": _TIMEOUT_S, "socket_connect_timeout": _TIMEOUT_S}
    with err().status("reading the online features"), connect(settings, **timeouts) as client:
        fresh = freshness(client, keys, declared, partitions)
        known = [moment for moment in fresh.values() if moment is not None]
        # while history is replayed, now is where the replay has come to
        now = max(known) if settings.clock == "event" and known else SystemClock().now()
        looked = look_at(client, keys, declared, wanted, partitions=partitions, now=now)
        found = [_since_changed(shown) for shown in looked]
    found = [shown for shown in found if shown.entity is not None]
    if json:
        say_json({"use_case": use_case, "entity": wanted, "now": now.isoformat(), "views": _as_json(found, fresh, now)})
    elif found:
        _print(found, fresh, now)
    else:
        out().print(f"No view of {use_case} is kept by {', '.join(wanted)} alone.")


def _entity(use_case: UseCase, given: Sequence[str]) -> dict[str, Any]:
    """The entity fields that were given; wrong usage if one is unknown or its value is none."""
    fields = {field.name: field for field in use_case.entities}
    found: dict[str, Any] = {}
    for text in given:
        name, separator, value = text.partition("=")
        if not separator or name not in fields:
            known = ", ".join(f"{f.name}={f.example if f.example is not None else '…'}" for f in fields.values())
            raise typer.BadParameter(f"{text!r} names no entity field of {use_case.name}; use one of: {known}")
        found[name] = _value(fields[name], value)
    return found


def _value(field: Field, text: str) -> int | float | str:
    try:
        return int(text) if field.dtype == "int" else float(text) if field.dtype == "float" else text
    except ValueError as error:
        kind = {"int": "a whole number", "float": "a number"}[field.dtype]
        raise typer.BadParameter(f"{field.name} must be {kind}, got {text!r}") from error


def _since_changed(shown: Shown) -> Shown:
    """With a window's age by the machine's clock, which stamps the log's entries also while history is replayed."""
    from core.clock import SystemClock

    if shown.kind != "window" or shown.changed_at is None:
        return shown
    return replace(shown, age=SystemClock().now() - shown.changed_at)


def _as_json(
    found: Sequence[Shown], fresh: Mapping[str, datetime | None], now: datetime
) -> dict[str, Mapping[str, Any]]:
    return {
        shown.view: {
            "kind": shown.kind,
            "source": shown.source,
            "values": dict(shown.values),
            "degraded": list(shown.degraded),
            "changed_at": shown.changed_at.isoformat() if shown.changed_at else None,
            "age_s": shown.age.total_seconds() if shown.age is not None else None,
            "expires_in_s": shown.expires_in.total_seconds() if shown.expires_in is not None else None,
            "view_newest_at": newest.isoformat() if (newest := fresh.get(shown.view)) else None,
            "view_age_s": (now - newest).total_seconds() if newest else None,
            "tiles": shown.tiles,
            "size_bytes": shown.size_bytes,
        }
        for shown in found
    }


def _print(found: Sequence[Shown], fresh: Mapping[str, datetime | None], now: datetime) -> None:
    from rich.table import Table

    table = Table("view", "feature", "value", "changed", "source", "newest in the view", "kept", box=None)
    for shown in found:
        newest = fresh.get(shown.view)
        age = f"{ago(shown.age.total_seconds())} ago" if shown.age is not None else "never"
        view_age = f"{ago((now - newest).total_seconds())} ago" if newest else "none yet"
        kept = f"{shown.size_bytes} bytes" + (f" in {shown.tiles} tiles" if shown.tiles else "")
        about = (age, f"{shown.kind} of {shown.source}", view_age, kept)
        for i, (name, value) in enumerate(shown.values.items()):
            table.add_row(shown.view if i == 0 else "", name, f"{value:g}", *(about if i == 0 else ("",) * len(about)))
    out().print(table)
    for shown in found:
        for reason in shown.degraded:
            out().print(f"Defaults are served for {reason}", markup=False)
