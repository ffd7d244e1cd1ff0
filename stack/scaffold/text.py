"""From a declaration to the text of the use-case file."""

from __future__ import annotations

import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stack.scaffold.declaration import Declaration, Declared
from stack.scaffold.labels import LabelSource
from stack.scaffold.layout import WIDTH, call, exploded, laid_out, literal, quoted, texts_tuple, tuple_of
from stack.scaffold.names import unlike
from stack.scaffold.times import TimeSource

_TEMPLATE = "use_case.py.jinja"
_LONGEST_NOTE = 60
_SMALL_ROWS, _SMALL_ONES = 1500, 200


def use_case_text(declared: Declaration, data: str, reading: str, *, base: dict[str, float]) -> str:
    """The text of ``models/NAME.py``.

    Args:
        declared: what it says.
        data: path of the table below the data folder.
        reading: the expression that reads it.
        base: mean of each number that is averaged, by its name.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(_TEMPLATE).render(_values(declared, data, reading, base))


def _values(d: Declaration, data: str, reading: str, base: dict[str, float]) -> dict[str, Any]:
    fields = (*d.entities, *d.request)
    numbers = [f.name for f in fields if f.is_feature and f.dtype != "str"]
    coded = [f for f in fields if f.is_feature and f.codes]
    hour, weekday = unlike("hour", numbers), unlike("weekday", numbers)
    suffix = next(
        s
        for s in ("_code", "_place", "_code_number")
        if not {f"{f.name}{s}" for f in coded} & {*numbers, hour, weekday}
    )
    few = d.rhythm.first_rows < _SMALL_ROWS or d.rhythm.first_ones < _SMALL_ONES
    # in a look shorter than a week days are missing, and a code that is missing calls people
    week_long = d.has_weekday and d.rhythm.monitor_every >= timedelta(days=7)
    categorical = [
        *([weekday] if week_long else []),
        *(f.name for f in fields if f.is_feature and f.is_code and f.dtype != "str"),
    ]
    return {
        "d": d, "data": data, "reading": reading, "doc": _story(d, data), "few": few,
        "renamed": [_renamed(column, name) for column, name in d.renamed.items()],
        "inputs": laid_out(
            "inputs=(", ['"at"', *(["*NUMBERS"] if numbers else []), *(["*CODES"] if coded else [])], ")", indent=16,
            after=",",
        ) if numbers or coded else 'inputs=("at",),',
        "outputs": laid_out("outputs=(", _outputs(d, hour, weekday, suffix, bool(numbers), bool(coded)), ")", indent=16,
                            after=","),
        "entities": tuple_of([_field(f, 4) for f in d.entities]),
        "request": tuple_of([_field(f, 4) for f in d.request]) if d.request else "()",
        "values": tuple_of([_field(f, 4, example=False) for f in d.values]) if d.values else "",
        "numbers": texts_tuple(numbers, opening="NUMBERS = (") if numbers else "",
        "codes": exploded("{", [texts_tuple(f.codes, opening=f"{quoted(f.name)}: (", indent=4) for f in coded], "}")
        if coded else "",
        "coded": coded, "hour": hour, "weekday": weekday, "suffix": suffix,
        "base_rate": f"{d.base_rate:.3g}",
        # what is sent within one tick of the replay is not seen by those who ask at its end
        "sooner": literal(min(d.rhythm.tick, d.horizon / 2)),
        "aggregates": [_mean(f, base[f.name]) for f in d.values],
        "time": _time(d.time, d.renamed), "label_time": _time(d.label_time, d.renamed) if d.label_time else "",
        "label": _label(d.label, d.renamed),
        "scope": d.entities[0].name if not d.entities[0].column else "",
        "categorical": _categorical(categorical, suffix if coded else ""),
        "label_call": call(
            "label=Label", indent=4, after=",", name=quoted(d.label_name), description=quoted(_label_says(d.label)),
            horizon="HORIZON", known_only_after=_nested_tuple(d.only_after, 8),
        ),
        "pasts": [
            laid_out(
                "past_of(", [quoted(f.name), *(f"{k}={literal(getattr(past, k))}" for k in ("tile", "short", "long"))],
                ")", indent=12, after=",",
            )
            for f, past in zip(d.entities, d.rhythm.pasts, strict=True)
        ],
        "lit": literal, "quoted": quoted, "description": quoted(_short(d.question, 90)),
    }  # fmt: skip


def _outputs(d: Declaration, hour: str, weekday: str, suffix: str, numbers: bool, coded: bool) -> list[str]:
    found = [quoted(hour)] if d.has_hour else []
    found += [quoted(weekday)] if d.has_weekday else []
    found += ["*NUMBERS"] if numbers else []
    found += [f'*(f"{{name}}{suffix}" for name in CODES)'] if coded else []
    return found if len(found) > 1 else [f"{found[0]},"]


def _categorical(names: list[str], suffix: str) -> str:
    parts = [quoted(name) for name in names]
    parts += [f'*(f"{{name}}{suffix}" for name in CODES)'] if suffix else []
    if len(parts) == 1:
        parts = [f"{parts[0]},"]
    return laid_out("categorical=(", parts, ")", indent=4, after=",") if parts else ""


def _renamed(column: str, name: str) -> str:
    line = f"{quoted(column)}: {quoted(name)},"
    return line if len(line) + 4 <= WIDTH else f"{line}  # noqa: E501"


def _nested_tuple(values: tuple[str, ...], indent: int) -> str:
    return texts_tuple(values, opening="(", indent=indent + len("known_only_after="), after=",").removesuffix(",") if (
        indent + len(f"known_only_after={texts_tuple(values)},") <= WIDTH
    ) else exploded("(", [quoted(v) for v in values], ")", indent=indent)  # fmt: skip


def _field(f: Declared, indent: int, *, example: bool = True) -> str:
    says = _short(f.says, _LONGEST_NOTE)
    shown = literal(f.example)
    return call(
        "Field", indent=indent, after=",", name=quoted(f.name), dtype=quoted(f.dtype),
        nullable="True" if f.nullable else None, example=shown if example else None,
        description=quoted(says) if says else None,
    ).removesuffix(",")  # fmt: skip


def _mean(f: Declared, mean: float) -> str:
    return call(
        "Aggregate", indent=12, name=quoted(f"mean_{f.name}"), kind=quoted("mean"), field=quoted(f.name),
        default=repr(float(f"{mean:.4g}")), after=",",
    ).removesuffix(",")  # fmt: skip


def _label_says(label: LabelSource) -> str:
    if label.kind == "above":
        return _short(f"{label.column} above {label.value:g}", _LONGEST_NOTE)
    value = f"{label.value:g}" if isinstance(label.value, float) else label.value
    return _short(f"{label.column} is {value}", _LONGEST_NOTE)


def _label(label: LabelSource, renamed: dict[str, str]) -> list[str]:
    column = f"raw[{quoted(renamed.get(label.column, label.column))}]"
    if label.kind == "text":
        hit = f"(texts.str.lower() == {quoted(str(label.value))})"
        return [f"texts = {column}.astype(object).where({column}.notna(), None).map(as_text, na_action=\"ignore\")",
                f"return {hit}.astype(\"float64\").where(texts.notna() & (texts != \"\"))"]  # fmt: skip
    sign = ">" if label.kind == "above" else "=="
    value = f"{label.value:g}" if float(label.value) == float(f"{label.value:g}") else repr(label.value)
    return [f"values = pd.to_numeric({column}, errors=\"coerce\")",
            f"return (values {sign} {value}).astype(\"float64\").where(values.notna())"]  # fmt: skip


def _time(source: TimeSource, renamed: dict[str, str]) -> list[str]:
    """The lines of a function that reads moments from ``raw``."""
    own = [f"raw[{quoted(renamed.get(c, c))}]" for c in source.columns]
    utc = ", utc=True" if not source.zone else ""
    if source.kind in ("order", "steps"):
        assert source.start is not None and source.step is not None
        count = own[0] if own else "pd.Series(range(len(raw)), index=raw.index)"
        seconds = source.step.total_seconds()
        lines = [
            f'elapsed_us = pd.to_numeric({count}).astype("float64") * {round(seconds * 1e6):_}',
            f'at = pd.Timestamp({quoted(source.start.isoformat())}) + pd.to_timedelta(elapsed_us, unit="us")',
        ]
    elif source.kind == "parts":
        names = ("year", "month", "day", "hour", "minute")
        parts = [f'{quoted(n)}: pd.to_numeric({c}, errors="coerce")' for n, c in zip(names, own, strict=False)]
        table = laid_out("parts = pd.DataFrame({", parts, "})", indent=4)
        if "\n" in table:
            inner = "".join(f"            {part},\n" for part in parts)
            table = f"parts = pd.DataFrame(\n        {{\n{inner}        }}\n    )"
        lines = [table, f'at = pd.to_datetime(parts, errors="coerce"{utc})']
    elif source.kind == "epoch":
        lines = [f'at = pd.to_datetime(pd.to_numeric({own[0]}, errors="coerce"), unit={quoted(source.form)}, utc=True)']
    elif source.kind == "digits":
        lines = [f"digits = pd.to_numeric({own[0]}, errors=\"coerce\").astype(\"Int64\").astype(str)",
                 f"at = pd.to_datetime(digits, format={quoted(source.form)}, errors=\"coerce\"{utc})"]  # fmt: skip
    elif source.kind == "datetime":
        lines = [f"at = pd.to_datetime({own[0]}{utc})"]
    else:
        lines = [f"texts = {own[0]}.astype(str).str.strip()",
                 f"at = pd.to_datetime(texts, format={quoted(source.form)}, errors=\"coerce\"{utc})"]  # fmt: skip
    if source.hour:
        hours = f'pd.to_numeric(raw[{quoted(renamed.get(source.hour, source.hour))}], errors="coerce")'
        lines.append(f'at = at + pd.to_timedelta({hours}, unit="h")')
    if source.zone:
        lines.append(f'at = at.dt.tz_localize({quoted(source.zone)}, ambiguous="NaT", nonexistent="NaT")')
        lines.append('return at.dt.tz_convert("UTC").astype("datetime64[us, UTC]")')
    else:
        lines.append('return at.astype("datetime64[us, UTC]")')
    return lines


def _story(d: Declaration, data: str) -> str:
    """The module's docstring, after its first line."""
    parts = [
        f"Written by `evergreen new` from {data}: {d.rows:,} rows from {d.first:%Y-%m-%d} to {d.last:%Y-%m-%d}, "
        f"{d.base_rate:.3g} of the {d.labelled:,} labels are 1. It works as it stands; change what you know better."
    ]
    parts += d.notes
    by_reason: dict[str, list[str]] = {}
    for column, why in d.left_out.items():
        by_reason.setdefault(why, []).append(column)
    paragraphs = [_wrapped(part) for part in parts]
    if by_reason:
        left = [
            _wrapped(f"{', '.join(columns)}: {why.replace('it ', 'they ', 1) if False else why}", first="- ", rest="  ")
            for why, columns in by_reason.items()
        ]
        paragraphs.append("Left out of the request:\n" + "\n".join(left))
    return _plain("\n\n".join([paragraphs[0], *(["\n".join(paragraphs[1 : 1 + len(d.notes)])] if d.notes else []),
                               *paragraphs[1 + len(d.notes) :]]))  # fmt: skip


def _wrapped(text: str, *, first: str = "", rest: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()), WIDTH - 2, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False
    )


def _plain(text: str) -> str:
    """Without what would end a docstring or be an escape in it."""
    return text.replace("\\", "/").replace('"""', "'''")


def _short(text: str, most: int) -> str:
    flat = " ".join(text.split())
    return flat if len(flat) <= most else flat[: most - 1] + "…"
