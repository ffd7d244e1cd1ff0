"""Run the benchmarks, print a table, write ``bench/results/`` and ``docs/benchmarks.md``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench.machine import facts
from bench.measure import Result

ROOT = Path(__file__).resolve().parents[1]
_COLUMNS = ("what", "value", "unit", "better", "target", "reached", "against", "ratio", "n")
AREAS = ("features", "loop")


def main(wanted: list[str]) -> int:
    """Run the wanted areas, all by default; 2 if one is unknown."""
    unknown = sorted(set(wanted) - set(AREAS))
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. Use one of: {', '.join(AREAS)}.", file=sys.stderr)
        return 2
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    for area in wanted or AREAS:
        results: list[Result] = import_module(f"bench.{area}").run()
        (folder / f"{area}.json").write_bytes(orjson.dumps([asdict(r) for r in results], option=orjson.OPT_INDENT_2))
        _print(area, results)
    (ROOT / "docs" / "benchmarks.md").write_text(_page(folder))
    return 0


def _print(area: str, results: list[Result]) -> None:
    table = Table(*_COLUMNS, title=area, title_justify="left")
    for result in results:
        table.add_row(*_cells(result))
    Console().print(table)


def _page(folder: Path) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians of n runs after one that is not counted; contenders run by turns, each in a"
        " process of its own. Machines differ, so compare within one table. `ratio` is value over that of `against`.",
        "",
        *facts(),
    ]
    for path in sorted(folder.glob("*.json")):
        lines += ["", f"## {path.stem}", "", _row(_COLUMNS), _row(["---"] * len(_COLUMNS))]
        lines += [_row(_cells(Result(**each))) for each in orjson.loads(path.read_bytes())]
    return "\n".join(lines) + "\n"


def _cells(result: Result) -> list[str]:
    reached = {True: "yes", False: "no", None: ""}[result.reached]
    numbers = ["" if x is None else f"{x:,.4g}" for x in (result.value, result.target, result.ratio)]
    value, target, ratio = numbers
    return [result.name, value, result.unit, result.better, target, reached, result.against or "", ratio, str(result.n)]


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
