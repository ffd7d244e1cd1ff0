"""``explain``: what was known when something was decided, and whether the same comes out again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from core.errors import LedgerError
from stack.commands.console import JsonOption, out, say_json, settings_of_command

if TYPE_CHECKING:
    from core.decision import Decision
    from core.ledger import Entry


def explain(
    decision_id: Annotated[int, typer.Argument(help="Id of a decision, as evergreen history lists it.")],
    json: JsonOption = False,
) -> None:
    """Show what a decision was made from, and make it again. Exit code 1 if it comes out otherwise."""
    from stack.commands.versions import opened_ledger

    settings = settings_of_command()
    with opened_ledger(settings) as ledger:
        entry = ledger.entry(decision_id)
    if entry is None:
        raise LedgerError(f"The ledger has no decision {decision_id}. See: evergreen history USE_CASE")
    again, why_not = recompute(entry)
    same = again is not None and (again.action, again.reason) == (entry.action, entry.reason)
    if json:
        from stack.status import entry_json

        again_json = again and {"action": again.action, "reason": again.reason}
        say_json(entry_json(entry) | {"again": again_json, "same": same if again else None, "not_recomputed": why_not})
    else:
        _print(entry, again, why_not, same=same)
    raise typer.Exit(1 if again is not None and not same else 0)


def recompute(entry: Entry) -> tuple[Decision | None, str | None]:
    """The decision made again from its evidence; or None, and why it cannot be."""
    try:
        if entry.kind == "trigger" and "facts" in entry.evidence:
            from monitoring.triggers import redecide

            return redecide(entry.evidence), None
        if entry.kind == "aftermath":
            from monitoring.aftermath import judge_again

            return judge_again(entry.evidence), None
        if entry.kind == "gate":
            from registry.verdict import rejudge

            return rejudge(entry.evidence), None
    except (KeyError, TypeError, ValueError) as error:
        return None, f"its evidence was recorded by another release ({type(error).__name__}: {error})"
    return None, "it was not computed from facts: it records what somebody did, or what became of it"


def _print(entry: Entry, again: Decision | None, why_not: str | None, *, same: bool) -> None:
    version = f" version {entry.version}" if entry.version else ""
    _say(f"Decision {entry.id}: {entry.use_case}{version}, {entry.kind}, as of {entry.as_of:%Y-%m-%d %H:%M} UTC")
    _say(f"{entry.action}: {entry.reason}")
    _say(f"by {entry.actor}, recorded {entry.recorded_at:%Y-%m-%d %H:%M:%S} UTC")
    answers = entry.evidence.get("answers")
    if answers:
        _say("\nWhat each trigger said:")
        for depth, said in _flat(answers):
            _say(f"{'  ' * depth}  {'yes' if said['fired'] else 'no '}  {said['name']}: {said['reason']}")
    for stage in entry.evidence.get("stages", ()):
        _say(f"  {stage['name']:12} {stage['status']:8} {stage['seconds']:7.2f} s  {stage['says']}")
    _say("\nWhat was known then:")
    for line in _known(entry.evidence):
        _say(f"  {line}")
    if again is None:
        _say(f"\nIt cannot be recomputed: {why_not}.")
    elif same:
        _say(f"\nRecomputed from this: {again.action}, for the same reason.")
    else:
        _say(f"\nRecomputed from this it comes out otherwise: {again.action}: {again.reason}")


def _flat(said: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """An answer and its parts; of several put together only the parts are reasons of their own."""
    if "parts" in said:
        yield depth, {**said, "reason": "put together from"}
        for part in said["parts"]:
            yield from _flat(part, depth + 1)
    else:
        yield depth, said


def _known(evidence: Mapping[str, Any]) -> Iterator[str]:
    """The evidence as lines, without what is told elsewhere and what is not there."""
    told = ("answers", "fired", "trigger", "stages", "curve")  # the curve is in the facts
    for name, value in _leaves({key: value for key, value in evidence.items() if key not in told}):
        if value is not None and value != [] and value != {}:
            yield f"{name}: {value}"


_LONGEST = 8


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list) and any(isinstance(each, Mapping | list) for each in value):
        for i, inner in enumerate(value[-_LONGEST:], start=max(0, len(value) - _LONGEST)):
            yield from _leaves(inner, f"{name}[{i}]")
    else:
        yield name, f"{value:.6g}" if isinstance(value, float) else value


def _say(line: str) -> None:
    out().print(line, markup=False, soft_wrap=True)
