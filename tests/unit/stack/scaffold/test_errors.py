"""What cannot be used is refused with the column and what to do."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stack.scaffold.deciding import declare
from stack.scaffold.declaration import Choices
from stack.scaffold.errors import TableError
from stack.scaffold.tables import read_table
from stack.scaffold.writing import check_name
from tests.tables import ROWS, orders

EVERY_FIFTH = np.arange(ROWS) % 5 == 0


def test_cases_are_refused_with_a_remedy() -> None:
    table = orders()
    several = table["pieces"].map(lambda n: f"state {n}")
    cases: list[tuple[pd.DataFrame, Choices, list[str]]] = [
        (table.drop(columns="ordered_at"), Choices(), ["No column holds times", "--time COLUMN", "--start"]),
        (table, Choices(time="shop"), ["'shop' cannot be read as times", "'", "2024-03-31T14:05:00Z"]),
        (table, Choices(time="when"), ["no column 'when'", "ordered_at"]),
        (table.assign(ordered_at="2024-01-01"), Choices(time="ordered_at"), ["'ordered_at'"]),
        (table.assign(ordered_at=pd.Timestamp("2024-01-01", tz="UTC")), Choices(), ["same time", "'ordered_at'"]),
        (table.drop(columns="returned"), Choices(), ["No column has exactly two values", "--label-above"]),
        (table, Choices(label="price"), ["'price' is not binary", "--label-above"]),
        (table.assign(returned=several), Choices(label="returned"), ["8 different values", "--positive 'state"]),
        (table.assign(returned=several), Choices(label="returned", above=3), ["holds texts", "--positive"]),
        (table.assign(returned=several), Choices(label="returned", positive="x"), ["No row has 'x'", "'state"]),
        (table, Choices(label="returned", positive="yes"), ["'yes' is none", "--positive"]),
        (table, Choices(label="price", above=1e6), ["one class only", "no row", "--label-above"]),
        (table.assign(returned=1), Choices(label="returned"), ["one class only", "'returned'"]),
        (table.assign(returned=np.nan), Choices(label="returned"), ["'returned' is empty", "--label"]),
        (table.head(200), Choices(), ["Only 200 rows", "300"]),
        (table.assign(returned=np.arange(ROWS) < 5), Choices(), ["Only 5 of 600 rows", "20 are the least"]),
        (table.assign(returned=table["returned"].where(EVERY_FIFTH)), Choices(), ["Only 120 rows", "'returned'"]),
        (table, Choices(entities=("price",)), ["entity 'price'", "--entity"]),
        (table, Choices(entities=("city",)), ["no column 'city'"]),
        (table, Choices(horizon=timedelta(days=30)), ["30 days", "--horizon"]),
        (table.assign(ordered_at=table["ordered_at"].where(EVERY_FIFTH)), Choices(), ["20% of the rows", "--time"]),
        (table.assign(before=table["ordered_at"] - timedelta(days=1)), Choices(time="ordered_at", label_time="before"),
         ["'before' lies before", "--horizon"]),
        (table, Choices(step=timedelta(hours=1)), ["--start and --step"]),
        (table.assign(ordered_at=pd.date_range("2024-01-01", periods=ROWS, freq="100ms", tz="UTC")), Choices(),
         ["All rows lie within", "--time"]),
    ]  # fmt: skip
    for number, (given, choices, said) in enumerate(cases):
        with pytest.raises(TableError) as caught:
            declare("x", given, choices)
        for part in said:
            assert part in str(caught.value), (number, str(caught.value))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.xlsx", b"x", "kind that cannot be read"),
        ("a.parquet", b"PAR", "cannot be read"),
        ("a.csv", b"", "cannot be read"),
        ("a.csv.gz", b"no gzip", "cannot be read"),
        ("a.csv", b"a,b\n", "no rows"),
    ],
)
def test_files_are_refused_with_a_remedy(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(TableError, match=said):
        read_table(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="no file"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize("name", ["Shop", "1st", "a-b", "class", "history", "pd", "", "x" * 50])
def test_names_that_cannot_be_used(tmp_path: Path, name: str) -> None:
    with pytest.raises(TableError):
        check_name(name, tmp_path, force=False)


def test_no_file_is_overwritten_unasked(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("")
    with pytest.raises(TableError, match="--force"):
        check_name("shop", tmp_path, force=False)
    check_name("shop", tmp_path, force=True)
