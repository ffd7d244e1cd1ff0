"""Checking what clients send against the fields a use case declares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from core.clock import from_us, parse_moment, to_us
from core.use_case import Field
from features.definitions import MAX_AHEAD
from serving.gateway.problems import MOST_FAULTS, Fault, InvalidFields, shown

AHEAD_US: Final = MAX_AHEAD // timedelta(microseconds=1)
LONGEST_TEXT: Final = 256
_INT_MIN, _INT_MAX = -(2**63), 2**63 - 1
_LARGEST_EXACT = 2**53  # of whole numbers in a float64, as which those that may be null are held
_MISSING: Final = object()

Rule = Callable[[Any], Any]


class Rejected(Exception):
    """A value a rule does not accept: becomes a Fault once its place is known."""

    def __init__(self, detail: str, remedy: str) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy


class RecordRules:
    """The rules for one kind of record: an instance, an event, a label.

    Args:
        rules: per key, a function from the value (a marker if absent) to the clean value, raising Rejected.

    Example:
        >>> rules = RecordRules({"fare": rule_for(Field(name="fare", dtype="float"))})
        >>> rules.check({"fare": 3}, "instances[0]", [])
        {'fare': 3.0}
        >>> faults = []
        >>> rules.check({"fare": True}, "instances[0]", faults), faults[0].field
        (None, 'instances[0].fare')
    """

    def __init__(self, rules: dict[str, Rule]) -> None:
        self._rules = tuple(rules.items())
        self._names = frozenset(rules)

    def check(self, record: object, path: str, faults: list[Fault]) -> dict[str, Any] | None:
        """The clean record with every key of the rules; or None, and what is wrong with it added to `faults`."""
        if type(record) is not dict:
            faults.append(Fault(path, f"Must be an object, got {shown(record)}.", "Send an object with named fields."))
            return None
        clean = {}
        known = 0
        try:
            for name, rule in self._rules:
                if name in record:
                    known += 1
                    clean[name] = rule(record[name])
                else:
                    clean[name] = rule(_MISSING)
        except Rejected:
            known = -1
        if known == len(record):
            return clean
        self._explain(record, path, faults)
        return None

    def _explain(self, record: dict[str, Any], path: str, faults: list[Fault]) -> None:
        for name, rule in self._rules:
            try:
                rule(record.get(name, _MISSING))
            except Rejected as rejected:
                faults.append(Fault(f"{path}.{name}", rejected.detail, rejected.remedy))
        for name in record:
            if name not in self._names:
                remedy = f"Leave it out; the fields are: {', '.join(sorted(self._names))}."
                faults.append(Fault(f"{path}.{name[:60]}", "There is no such field.", remedy))


def read_records(
    document: dict[str, Any], key: str, limit: int, read: Callable[[Any, str, list[Fault]], Any]
) -> tuple[list[Any], list[Fault]]:
    """Read the records in the array under `key`, the only key the document may have.

    Args:
        document: the request's body.
        key: where the records are.
        limit: most records accepted.
        read: reads one record given its path, adding what is wrong to the faults.

    Returns:
        What `read` returned for each record, and the faults. Reading stops once there are ten.
    """
    records = document.get(key, _MISSING)
    unknown = [name for name in document if name != key]
    if unknown:
        return [], [Fault(unknown[0][:60], "There is no such field.", f"Send only {key!r}.")]
    if type(records) is not list or not records:
        got = "nothing" if records is _MISSING else "an empty array" if records == [] else shown(records)
        return [], [Fault(key, f"Must be an array of at least one object, got {got}.", f"Send 1 to {limit} {key}.")]
    if len(records) > limit:
        return [], [Fault(key, f"Has {len(records)} entries, at most {limit} are accepted.", "Split the call.")]
    faults: list[Fault] = []
    clean = []
    for i, record in enumerate(records):
        clean.append(read(record, f"{key}[{i}]", faults))
        if len(faults) >= MOST_FAULTS:
            break
    return clean, faults


def rule_for(field: Field) -> Rule:
    """The rule a declared field stands for. Null and absence become None where the field is nullable."""
    accept = {"int": _int_rule, "float": _float_rule, "str": _text_rule}[field.dtype](field)
    nullable = field.nullable
    wanted = _wanted(field)

    def rule(value: Any) -> Any:
        if value is None or value is _MISSING:
            if nullable:
                return None
            raise Rejected("Is missing." if value is _MISSING else "Is null, which is not accepted.", wanted)
        return accept(value)

    return rule


def text_rule(what: str) -> Rule:
    """The rule for a required string of 1 to 256 characters; `what` describes it."""
    return rule_for(Field(name="text", dtype="str", description=what))


def moment_rule(*, required: bool) -> Rule:
    """The rule for an ISO 8601 moment: whole microseconds since 1970 UTC, or None if absent and not required."""

    def rule(value: Any) -> int | None:
        if value is _MISSING or value is None:
            if required:
                raise Rejected("Is missing.", _MOMENT_REMEDY)
            return None
        return moment_us(value)

    return rule


def moment_us(value: Any) -> int:
    """An ISO 8601 moment as whole microseconds since 1970 UTC; without an offset it is UTC.

    Raises:
        Rejected: if it is none, or before 1970.
    """
    if type(value) is not str or not value.isprintable():  # the parser passes over a NUL at the end
        raise Rejected(f"Must be an ISO 8601 moment, got {shown(value)}.", _MOMENT_REMEDY)
    try:
        us = to_us(parse_moment(value))
    except (ValueError, OverflowError) as error:
        raise Rejected(f"Must be an ISO 8601 moment, got {shown(value)}.", _MOMENT_REMEDY) from error
    if us < 0:
        raise Rejected(f"Lies before 1970: {shown(value)}.", "Send a moment from 1970 on.")
    return us


def within(us: int, *, earliest_us: int | None = None, latest_us: int) -> Rejected | None:
    """Why a moment is not accepted, or None if it lies in [earliest, latest]."""
    if us > latest_us:
        return Rejected(
            f"Lies in the future: {from_us(us).isoformat()}.",
            f"Send a moment up to {_iso(latest_us)}, or leave it out.",
        )
    if earliest_us is not None and us < earliest_us:
        return Rejected(
            f"Lies too far back: {from_us(us).isoformat()}.",
            f"Send a moment from {_iso(earliest_us)} to {_iso(latest_us)}, or leave it out.",
        )
    return None


_MOMENT_REMEDY = "Send a string such as 2019-02-02T12:30:00Z."


def _iso(us: int) -> str:
    try:
        return from_us(us).isoformat()
    except OverflowError:
        return "the end of time"


def _exact(bound: float) -> str:
    """A bound, briefly where that loses nothing."""
    brief = f"{bound:g}"
    return brief if float(brief) == bound else repr(bound)


def _wanted(field: Field) -> str:
    low = f" from {_exact(field.ge)}" if field.ge is not None else ""
    high = f" up to {_exact(field.le)}" if field.le is not None else ""
    kind = {"int": "a whole number", "float": "a number", "str": f"a string of 1 to {LONGEST_TEXT} characters"}
    meaning = f" ({field.description})" if field.description else ""
    return f"Send {kind[field.dtype]}{low}{high}{meaning}."


def _int_rule(field: Field) -> Rule:
    low = _INT_MIN if field.ge is None else max(_INT_MIN, math.ceil(field.ge))
    high = _INT_MAX if field.le is None else min(_INT_MAX, math.floor(field.le))
    wanted = _wanted(field)

    def rule(value: Any) -> int:
        if type(value) is not int:
            raise Rejected(f"Must be a whole number, got {shown(value)}.", wanted)
        if not low <= value <= high:
            raise Rejected(f"Must lie between {low} and {high}, got {value}.", wanted)
        if field.nullable and not -_LARGEST_EXACT <= value <= _LARGEST_EXACT:
            raise Rejected(
                f"Must lie between {-_LARGEST_EXACT} and {_LARGEST_EXACT}, as it may be null, got {value}.",
                f"Send a whole number from {-_LARGEST_EXACT} to {_LARGEST_EXACT}; larger ones need the field "
                "declared as str, or as an int that is never null.",
            )
        return value

    return rule


def _float_rule(field: Field) -> Rule:
    low = -math.inf if field.ge is None else field.ge
    high = math.inf if field.le is None else field.le
    bounds, wanted = f"{_exact(low)} and {_exact(high)}", _wanted(field)

    def rule(value: Any) -> float:
        if type(value) is not float and type(value) is not int:
            raise Rejected(f"Must be a number, got {shown(value)}.", wanted)
        number = float(value)
        if not low <= number <= high or not math.isfinite(number):
            raise Rejected(f"Must be finite and lie between {bounds}, got {_exact(number)}.", wanted)
        return number

    return rule


def _text_rule(field: Field) -> Rule:
    wanted = _wanted(field)

    def rule(value: Any) -> str:
        if type(value) is not str:
            raise Rejected(f"Must be a string, got {shown(value)}.", wanted)
        if not 0 < len(value) <= LONGEST_TEXT:
            raise Rejected(f"Must have 1 to {LONGEST_TEXT} characters, got {len(value)}.", wanted)
        if not value.isprintable() and _unusable(value):
            raise Rejected("Holds a NUL or half of a surrogate pair.", wanted)
        return value

    return rule


def _unusable(text: str) -> bool:
    return "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text)


def record_rules(fields: Sequence[Field], **further: Rule) -> RecordRules:
    """Rules for a record with the declared `fields` and `further` keys."""
    return RecordRules({**further, **{field.name: rule_for(field) for field in fields}})


class InstanceRules:
    """The rules for ``{"context": {…}, "instances": [{…}, …]}``.

    A field stands in the context if it is the same for all instances, else in each of them. Many instances that are
    as they should be are checked column by column; for all others, each value is looked at, to name what is wrong.

    Args:
        fields: the use case's request fields.
        most: most instances accepted.

    Example:
        >>> rules = InstanceRules([Field(name="user", dtype="int"), Field(name="ad", dtype="int")], 10)
        >>> rules.read({"context": {"user": 7}, "instances": [{"ad": 1}, {"ad": 2}]})
        ([{'ad': 1}, {'ad': 2}], {'user': 7}, None)
    """

    def __init__(self, fields: Sequence[Field], most: int) -> None:
        self._fields = {field.name: field for field in fields}
        self._most = most
        self._whole = self._parts(frozenset())
        self._known = {frozenset[str](): self._whole}

    def read(self, document: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str, Any] | None, Moments]:
        """The clean rows, the clean context, and the path and moment of each instance (None if none says any).

        Raises:
            InvalidFields: naming what is wrong.
        """
        context = document.pop("context", None)
        if context is None:
            return self._rows(document, self._whole, None)
        faults: list[Fault] = []
        if type(context) is not dict or not context:
            raise InvalidFields(
                [Fault("context", f"Must be an object with fields, got {shown(context)}.", "Name fields, or omit it.")]
            )
        names = frozenset(context)
        unknown = sorted(names - self._fields.keys())
        if unknown:
            remedy = f"Leave it out; the fields are: {', '.join(sorted(self._fields))}."
            raise InvalidFields([Fault(f"context.{name[:60]}", "There is no such field.", remedy) for name in unknown])
        parts = self._known.get(names) or self._remember(names)
        clean = parts.context.check(context, "context", faults)
        if clean is None:
            raise InvalidFields(faults)
        return self._rows(document, parts, clean)

    def _rows(
        self, document: dict[str, Any], parts: _Parts, context: dict[str, Any] | None
    ) -> tuple[list[dict[str, Any]], dict[str, Any] | None, Moments]:
        rows = document.get("instances")
        if type(rows) is list and len(document) == 1 and 0 < len(rows) <= self._most and parts.fit(rows):
            return rows, context, None
        clean, faults = read_records(document, "instances", self._most, parts.rows.check)
        if faults:
            raise InvalidFields(faults)
        moments = [(f"instances[{i}].at", row.pop("at")) for i, row in enumerate(clean)]
        return clean, context, moments if any(at is not None for _, at in moments) else None

    def _remember(self, names: frozenset[str]) -> _Parts:
        parts = self._parts(names)
        if len(self._known) < _MOST_SHAPES:
            self._known[names] = parts
        return parts

    def _parts(self, shared: frozenset[str]) -> _Parts:
        own = [field for name, field in self._fields.items() if name not in shared]
        return _Parts(
            context=RecordRules({name: rule_for(self._fields[name]) for name in shared}),
            rows=record_rules(own, at=moment_rule(required=False)),
            columns=tuple((field.name, _column_check(field)) for field in own),
        )


Moments = list[tuple[str, int | None]] | None
_MOST_SHAPES = 64


@dataclass(frozen=True, slots=True)
class _Parts:
    """The rules for one choice of which fields stand in the context."""

    context: RecordRules
    rows: RecordRules
    columns: tuple[tuple[str, Callable[[list[Any]], bool]], ...]

    def fit(self, rows: list[Any]) -> bool:
        """Whether every row has exactly the fields, each as it should be."""
        if set(map(type, rows)) != {dict} or set(map(len, rows)) != {len(self.columns)}:
            return False
        try:
            return all(fits([row[name] for row in rows]) for name, fits in self.columns)
        except KeyError:
            return False


def _column_check(field: Field) -> Callable[[list[Any]], bool]:
    """Says at once of many values that all are accepted as they stand; False says nothing."""
    if field.dtype == "str":

        def texts(values: list[Any]) -> bool:
            if set(map(type, values)) != {str}:
                return False
            lengths = list(map(len, values))
            return min(lengths) > 0 and max(lengths) <= LONGEST_TEXT and "".join(values).isprintable()

        return texts
    kind = int if field.dtype == "int" else float
    largest = _LARGEST_EXACT if field.dtype == "int" and field.nullable else _INT_MAX if kind is int else math.inf
    low = -largest if field.ge is None else max(-largest, field.ge)
    high = largest if field.le is None else min(largest, field.le)

    def numbers(values: list[Any]) -> bool:
        return set(map(type, values)) == {kind} and min(values) >= low and max(values) <= high

    return numbers
