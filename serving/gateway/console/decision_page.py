"""One decision, with what it was made from, laid out for reading."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from core.ledger import Entry
from serving.gateway.console.quality import Bounded
from serving.gateway.console.timeline import Row, row
from serving.gateway.console.words import number

_TOLD = ("answers", "facts", "policy", "fired", "trigger", "stages", "faults")
_MEASURES = {"log_loss": "log-loss", "auc": "AUC", "brier": "Brier", "calibration_error": "calibration error"}
_DEEPEST, _LONGEST, _FEW = 4, 40, 8


@dataclass(frozen=True)
class Answer:
    """What one trigger said; `depth` says how far it is nested."""

    depth: int
    name: str
    fired: bool
    reason: str


@dataclass(frozen=True)
class Line:
    """A fact and its name; `depth` says how far it is nested. The value is empty of one that only has parts."""

    depth: int
    name: str
    value: str


@dataclass(frozen=True)
class Compared:
    """One measure of a challenger and of the champion; empty text where one has none."""

    name: str
    challenger: str
    champion: str


@dataclass(frozen=True)
class Segment:
    """How a challenger did on a part of the rows."""

    name: str
    rows: int
    rise: str
    bounds: str


@dataclass(frozen=True, kw_only=True)
class DecisionPage:
    """Everything shown of a decision.

    Args:
        row: what was decided.
        answers: of the triggers.
        compared: challenger and champion, of a gate's verdict.
        gain: of the challenger, in words; empty of other decisions.
        segments: of a gate's verdict.
        facts: what was known.
        policy: what was wanted.
        others: the rest of the evidence.
        related: other decisions that the evidence names: what it is, and its id.
        raw: all evidence as JSON.
    """

    row: Row
    answers: tuple[Answer, ...]
    compared: tuple[Compared, ...]
    gain: str
    segments: tuple[Segment, ...]
    facts: tuple[Line, ...]
    policy: tuple[Line, ...]
    others: tuple[Line, ...]
    related: tuple[tuple[str, int], ...]
    raw: str


def decision_page(entry: Entry) -> DecisionPage:
    """Lay out a decision."""
    evidence = dict(entry.evidence)
    is_gate = entry.kind == "gate" and "challenger" in evidence
    shown = (*_TOLD, "challenger", "champion", "gain", "gain_interval", "segments") if is_gate else _TOLD
    return DecisionPage(
        row=row(entry),
        answers=tuple(_answers(evidence.get("answers"))),
        compared=tuple(_compared(evidence)) if is_gate else (),
        gain=_gain(evidence) if is_gate else "",
        segments=tuple(_segments(evidence)) if is_gate else (),
        facts=tuple(lines(evidence.get("facts") or {})),
        policy=tuple(lines(evidence.get("policy") or {})),
        others=tuple(lines({name: value for name, value in evidence.items() if name not in shown})),
        related=tuple(_related(evidence)),
        raw=orjson.dumps(evidence, option=orjson.OPT_INDENT_2).decode(),
    )


def lines(found: Any, depth: int = 0) -> Iterator[Line]:
    """Nested facts as lines, without what is not there."""
    items = found.items() if isinstance(found, Mapping) else enumerate(found)
    for name, value in items:
        if value is None or value == [] or value == {}:
            continue
        told = str(name).replace("_", " ") if isinstance(found, Mapping) else f"{int(name) + 1}."
        if isinstance(value, Mapping) and {"value", "low", "high"} == set(value):
            yield Line(depth, told, str(Bounded(value["value"], value["low"], value["high"])))
        elif _is_plain(value) or depth >= _DEEPEST:
            yield Line(depth, told, _text(value))
        elif not isinstance(found, Mapping) and isinstance(value, Mapping) and all(map(_is_plain, value.values())):
            said = (f"{key.replace('_', ' ')} {_text(each)}" for key, each in value.items() if each is not None)
            yield Line(depth, told, ", ".join(said))
        else:
            yield Line(depth, told, "")
            yield from lines(value[:_LONGEST] if isinstance(value, list) else value, depth + 1)
            if isinstance(value, list) and len(value) > _LONGEST:
                yield Line(depth + 1, f"{len(value) - _LONGEST} more", "see the evidence as JSON")


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(not isinstance(each, Mapping | list) for each in value)
    return not isinstance(value, Mapping)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        if len(value) > _FEW and all(isinstance(each, int | float) for each in value):
            return f"{len(value)} numbers, {_text(min(value))} to {_text(max(value))}"
        more = f", … ({len(value)} in all)" if len(value) > _LONGEST else ""
        return ", ".join(_text(each) for each in value[:_LONGEST]) + more
    return str(value) if not isinstance(value, Mapping) else orjson.dumps(value).decode()


def _answers(said: Any, depth: int = 0) -> Iterator[Answer]:
    if not isinstance(said, Mapping):
        return
    parts: Sequence[Any] = said.get("parts") or ()
    reason = "put together from" if parts else str(said.get("reason", ""))
    yield Answer(depth, str(said.get("name", "")), bool(said.get("fired")), reason)
    for part in parts:
        yield from _answers(part, depth + 1)


def _compared(evidence: Mapping[str, Any]) -> Iterator[Compared]:
    challenger, champion = evidence["challenger"], evidence.get("champion") or {}
    for name, told in _MEASURES.items():
        if challenger.get(name) is not None:
            yield Compared(told, number(challenger[name]), number(champion.get(name)))
    latency = evidence.get("latency") or {}
    if "challenger_ms" in latency:
        yield Compared("latency, ms", number(latency["challenger_ms"], 1), number(latency["champion_ms"], 1))


def _gain(evidence: Mapping[str, Any]) -> str:
    if "gain_interval" not in evidence:
        return ""
    low, high = evidence["gain_interval"]
    return f"{evidence['gain']:+.4f} ({low:+.4f} to {high:+.4f}) on {evidence['rows']:,} rows"


def _segments(evidence: Mapping[str, Any]) -> Iterator[Segment]:
    for part in evidence.get("segments") or ():
        low, high = part["rise_interval"]
        yield Segment(str(part["name"]), int(part["rows"]), f"{part['rise']:+.4f}", f"{low:+.4f} to {high:+.4f}")


def _related(evidence: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    named = {"decision_id": "called for by", "gate": "gate", "ask": "asked by", "alert_id": "alert"}
    for name, told in named.items():
        value = evidence.get(name)
        if isinstance(value, int | str) and str(value).isdigit():
            yield told, int(value)
    alert = evidence.get("alert")
    if isinstance(alert, Mapping) and isinstance(alert.get("decision_id"), int):
        yield "about", alert["decision_id"]
    for value in evidence.get("decisions") or ():
        if isinstance(value, int):
            yield "allowed by", value
