"""Run the benchmarks, print a table, write ``bench/results/`` and ``docs/benchmarks.md``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from bench import features, loop
from bench.measure import Result

ROOT = Path(__file__).resolve().parents[1]
AREAS: dict[str, Callable[[], list[Result]]] = {"features": features.run, "loop": loop.run}


def main(wanted: list[str]) -> int:
    """Run the wanted areas, all by default; 2 if one is unknown."""
    unknown = sorted(set(wanted) - set(AREAS))
    if unknown:
        print(f"There is no benchmark {unknown[0]!r}. Use one of: {', '.join(AREAS)}.", file=sys.stderr)
        return 2
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    for area in wanted or list(AREAS):
        results = AREAS[area]()
        (folder / f"{area}.json").write_bytes(orjson.dumps([asdict(r) for r in results], option=orjson.OPT_INDENT_2))
        _print(area, results)
    (ROOT / "docs" / "benchmarks.md").write_text(_page(folder))
    return 0


def _print(area: str, results: list[Result]) -> None:
    table = Table("what", "value", "unit", "target", "n", title=area, title_justify="left")
    for r in results:
        table.add_row(r.name, f"{r.value:,.4g}", r.unit, "" if r.target is None else f"{r.target:,.4g}", str(r.n))
    Console().print(table)


def _page(folder: Path) -> str:
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Medians of n runs; machines differ, so compare within one table.",
        "",
        f"Machine: {os.cpu_count()} CPUs, {platform.machine()}, Python {platform.python_version()}.",
    ]
    for path in sorted(folder.glob("*.json")):
        lines += [
            "",
            f"## {path.stem}",
            "",
            "| what | value | unit | better | target | n |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        for r in orjson.loads(path.read_bytes()):
            target = "" if r["target"] is None else f"{r['target']:,.4g}"
            lines.append(f"| {r['name']} | {r['value']:,.4g} | {r['unit']} | {r['better']} | {target} | {r['n']} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
