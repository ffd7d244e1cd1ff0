"""What `evergreen new` writes passes the type checker as files of this project do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd

from stack.scaffold.columns import numbers
from stack.scaffold.deciding import declare
from stack.scaffold.text import use_case_text
from tests.tables import shapes

ROOT = Path(__file__).resolve().parents[3]
# between them they read times and labels in every way, with and without keys, codes, numbers and a time of the label
_SHAPES = (
    "text times", "local times", "epoch seconds", "days as numbers", "day and hour", "year, month, day", "no times",
    "numbered rows", "yes and no", "a number as label", "a label's own time", "names in other scripts", "no key",
)  # fmt: skip


def test_every_way_of_reading_is_typed(tmp_path: Path) -> None:
    found, paths = shapes(), []
    for number, shape in enumerate(_SHAPES):
        table, choices = found[shape]
        declared = declare(f"case_{number}", table, choices)
        means = {f.name: mean(table, f.column) for f in declared.values}
        paths.append(tmp_path / f"case_{number}.py")
        paths[-1].write_text(use_case_text(declared, "a.parquet", "pd.read_parquet(data_dir / DATA)", base=means))
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), *map(str, paths)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-3000:]


def mean(table: pd.DataFrame, column: str) -> float:
    return float(numbers(table[column]).mean())
