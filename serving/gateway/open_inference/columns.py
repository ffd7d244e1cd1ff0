"""From tensors to instances, under the same rules as the gateway's own API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from core.use_case import Field, UseCase
from features.definitions import feature_set
from serving.gateway.open_inference.request import Column
from serving.gateway.problems import MOST_FAULTS, Fault, InvalidFields
from serving.gateway.validation import AHEAD_US, Rejected, Rule, moment_rule, rule_for, within
from serving.open_inference.tensors import BYTES, FRACTIONS, WHOLE

AT: Final = "at"
DATATYPE: Final[Mapping[str, str]] = {"int": "INT64", "float": "FP64", "str": BYTES}
"""What a field's tensor is declared as."""
_ACCEPTED: Final[Mapping[str, Sequence[str]]] = {
    "int": tuple(WHOLE),
    "float": (*FRACTIONS, *WHOLE),
    "str": (BYTES,),
}


class Columns:
    """Makes instances of one use case out of input tensors, one per field.

    Args:
        use_case: its declaration.
        most: most instances per call.
    """

    def __init__(self, use_case: UseCase, most: int) -> None:
        self._fields = {field.name: (field, rule_for(field)) for field in use_case.request_fields}
        self._lateness_us = int(feature_set(use_case).lateness.total_seconds() * 1_000_000)
        self._most = most

    def instances(self, inputs: Mapping[str, Column], now_us: int) -> tuple[list[dict[str, Any]], list[int]]:
        """The instances with every field, and the moment each is asked for in microseconds since 1970 UTC.

        Raises:
            InvalidFields: naming the inputs at fault, and where in them.
        """
        n = len(next(iter(inputs.values())).values)
        if n > self._most:
            raise InvalidFields(
                [Fault("inputs", f"Hold {n} instances, at most {self._most} are accepted.", "Split the call.")]
            )
        faults: list[Fault] = []
        for name in inputs:
            if name != AT and name not in self._fields:
                remedy = f"Leave it out; the inputs are: {', '.join([*self._fields, AT])}."
                faults.append(Fault(name[:60], "There is no such input.", remedy))
        clean = {
            name: _checked(name, inputs.get(name), n, field, rule, faults)
            for name, (field, rule) in self._fields.items()
        }
        at_us = self._moments(inputs.get(AT), n, now_us, faults)
        if faults:
            raise InvalidFields(faults)
        names = list(clean)
        return [dict(zip(names, row, strict=True)) for row in zip(*clean.values(), strict=True)], at_us

    def _moments(self, column: Column | None, n: int, now_us: int, faults: list[Fault]) -> list[int]:
        if column is None:
            return [now_us] * n
        earliest_us, latest_us = now_us - self._lateness_us, now_us + AHEAD_US
        read = moment_rule(required=False)

        def rule(value: Any) -> int:
            at_us = read(value)
            if at_us is None:
                return now_us
            why = within(at_us, earliest_us=earliest_us, latest_us=latest_us)
            if why is not None:
                raise why
            return int(at_us)

        return _checked(AT, column, n, Field(name=AT, dtype="str"), rule, faults)


def _checked(name: str, column: Column | None, n: int, field: Field, rule: Rule, faults: list[Fault]) -> list[Any]:
    """The clean values of one field, None in place of those that are wrong, which `faults` then tells of."""
    if column is None:
        if not field.nullable:
            remedy = f"Send it as {DATATYPE[field.dtype]} of shape [n]."
            faults.append(Fault(name, "This input is missing.", remedy))
        return [None] * n
    accepted = _ACCEPTED[field.dtype]
    if column.datatype not in accepted:
        faults.append(Fault(f"{name}.datatype", f"This is {column.datatype}.", f"Use one of {', '.join(accepted)}."))
        return [None] * n
    clean: list[Any] = []
    for i, value in enumerate(column.values):
        try:
            clean.append(rule(value))
        except Rejected as rejected:
            clean.append(None)
            if len(faults) < MOST_FAULTS:
                faults.append(Fault(f"{name}[{i}]", rejected.detail, rejected.remedy))
    return clean
