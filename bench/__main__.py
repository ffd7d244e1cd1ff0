"""Run the benchmarks, print a table, write ``bench/results/`` and ``docs/benchmarks.md``.

``python -m bench [area | area:part]…``: all areas by default. What is not run keeps its figures of before.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench.machine import facts
from bench.measure import Result
from bench.notes import NOTES, REMARKS

ROOT = Path(__file__).resolve().parents[1]
_COLUMNS = ("what", "value", "unit", "better", "target", "against", "ratio", "reached", "n")
_WIDE = 200
AREAS = ("features", "serving", "judgement", "loop")
Parts = dict[str, Callable[[], list[Result]]]


def main(wanted: list[str]) -> int:
    """Run what is wanted, all by default; 2 if something is unknown."""
    runs: list[tuple[str, str, Callable[[], list[Result]]]] = []
    for each in wanted or AREAS:
        area, _, part = each.partition(":")
        parts: Parts = import_module(f"bench.{area}").PARTS if area in AREAS else {}
        if not parts or (part and part not in parts):
            known = ", ".join([f"{area}:{name}" for name in parts] or AREAS)
            print(f"There is no benchmark {each!r}. Use one of: {known}.", file=sys.stderr)
            return 2
        runs += [(area, name, run) for name, run in parts.items() if part in ("", name)]
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    console, began = Console(stderr=True), time.monotonic()
    for i, (area, part, run) in enumerate(runs, 1):
        console.print(f"{i} of {len(runs)}: {area}, {part} (after {time.monotonic() - began:.0f} s)")
        results = run()
        _keep(folder / f"{area}.json", list(import_module(f"bench.{area}").PARTS), part, results)
        _print(f"{area}, {part}", results)
        (ROOT / "docs" / "benchmarks.md").write_text(page(folder))
    console.print(f"done in {time.monotonic() - began:.0f} s")
    return 0


def _keep(path: Path, parts: list[str], part: str, results: list[Result]) -> None:
    """Replace a part's figures, parts in their order."""
    before = orjson.loads(path.read_bytes()) if path.exists() else {}
    kept = (before if isinstance(before, dict) else {}) | {part: [asdict(result) for result in results]}
    ordered = {name: kept[name] for name in parts if name in kept}
    path.write_bytes(orjson.dumps(ordered, option=orjson.OPT_INDENT_2) + b"\n")


def _print(title: str, results: list[Result]) -> None:
    table = Table(*_COLUMNS, title=title, title_justify="left")
    for result in results:
        table.add_row(*_cells(result))
    console = Console()
    (console if console.is_terminal else Console(width=_WIDE)).print(table)


def page(folder: Path) -> str:
    """The results in a folder, and the machine's facts, in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians of n runs after one that is not counted; contenders for the same work run by"
        " turns, each in a process of its own. Machines differ, so compare within one table. `ratio` is value over that"
        " of `against`.",
        "",
        *facts(),
    ]
    for path in sorted(folder.glob("*.json")):
        parts = orjson.loads(path.read_bytes())
        results = [Result(**each) for part in parts.values() for each in part]
        remark = REMARKS.get(path.stem)
        lines += [
            "",
            f"## {path.stem}",
            *(("", remark) if remark else ()),
            "",
            _row(_COLUMNS),
            _row(["---"] * len(_COLUMNS)),
        ]
        lines += [_row(_cells(result)) for result in results]
        missed = [result for result in results if result.reached is False]
        lines += [line for result in missed for line in ("", _missed(result))]
    return "\n".join(lines) + "\n"


def _missed(result: Result) -> str:
    """By how much a figure misses its target, and what is known of the reason."""
    asked = f"{_number(result.target)} {result.unit}".strip()
    told = f"**Not reached: {result.name}.** It is {_number(result.value)} {result.unit}".strip()
    if result.ratio is not None and result.target:
        told += f", {result.ratio:.2f} times {result.against}; {result.ratio * result.target / result.value:.3g} times"
        told += f" ({asked}) is asked."
    else:
        told += f", {asked} is asked."
    notes = (n.text for n in NOTES if result.name.startswith(n.what) and n.against in (result.against or ""))
    return " ".join([told, *notes])


def _cells(result: Result) -> list[str]:
    reached = {True: "yes", False: "no", None: ""}[result.reached]
    value, target, ratio = (_number(x) for x in (result.value, result.target, result.ratio))
    return [result.name, value, result.unit, result.better, target, result.against or "", ratio, reached, str(result.n)]


def _number(x: float | None) -> str:
    return "" if x is None else f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.4g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
