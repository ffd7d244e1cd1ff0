"""Checking what clients send against the fields a use case declares."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Final

from core.clock import from_us, parse_moment, to_us
from core.use_case import Field
from features.definitions import MAX_AHEAD
from serving.gateway.problems import MOST_FAULTS, Fault, shown

AHEAD_US: Final = MAX_AHEAD // timedelta(microseconds=1)
LONGEST_TEXT: Final = 256
INT_MIN: Final = -(2**63)
INT_MAX: Final = 2**63 - 1
LARGEST_EXACT: Final = 2**53  # of whole numbers in a float64, as which those that may be null are held
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
    low = INT_MIN if field.ge is None else max(INT_MIN, math.ceil(field.ge))
    high = INT_MAX if field.le is None else min(INT_MAX, math.floor(field.le))
    wanted = _wanted(field)

    def rule(value: Any) -> int:
        if type(value) is not int:
            raise Rejected(f"Must be a whole number, got {shown(value)}.", wanted)
        if not low <= value <= high:
            raise Rejected(f"Must lie between {low} and {high}, got {value}.", wanted)
        if field.nullable and not -LARGEST_EXACT <= value <= LARGEST_EXACT:
            raise Rejected(
                f"Must lie between {-LARGEST_EXACT} and {LARGEST_EXACT}, as it may be null, got {value}.",
                f"Send a whole number from {-LARGEST_EXACT} to {LARGEST_EXACT}; larger ones need the field "
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
