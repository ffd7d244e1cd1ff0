"""A faulty file in models/ is refused with a sentence that names the file and the fault."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from core.discovery import discover, load_use_case, select
from core.errors import DuplicateUseCase, LeakageError, UnknownUseCase, UseCaseError
from core.use_case import RESERVED_NAMES, Field
from tests.sample_use_case import SALES, sample_use_case

GOOD = """
from datetime import timedelta
import numpy as np
from core.use_case import EventSource, Field, History, Label, UseCase
from features.definitions import Aggregate, BatchView, FeatureSet, RequestView, WindowView

shop = Field(name="shop", dtype="str")
amount = Field(name="amount", dtype="float")
sample = UseCase(
    name="sample",
    description="Will it sell?",
    entities=(shop,),
    request=(amount,),
    sources=(EventSource(name="sales", fields=(shop, amount)),),
    features=FeatureSet((
        RequestView(name="size", inputs=("amount",), outputs=("doubled",),
                    compute=lambda c: {"doubled": c["amount"] * 2}),
        WindowView(name="recent", entity="shop", source="sales", tile=timedelta(hours=1),
                   windows=(timedelta(hours=2),), aggregates=(Aggregate(name="sales", kind="count"),)),
    )),
    label=Label(name="sold", horizon=timedelta(hours=1), known_only_after=("receipt",)),
    estimator=lambda columns: None,
    history=lambda folder: None,
)
"""

FAULTS = [
    ("label=Label(name=\"sold\", horizon=timedelta(hours=1), known_only_after=(\"receipt\",)),", "label=None,",
     UseCaseError, "declares no label"),
    ('known_only_after=("receipt",)', 'known_only_after=("amount",)', LeakageError,
     "request field 'amount' is known only with the label"),
    ('outputs=("doubled",)', 'outputs=("sold",)', LeakageError, "feature 'sold' is the label"),
    ('inputs=("amount",)', 'inputs=("receipt",)', LeakageError, "reads 'receipt', which is known only with the label"),
    ('c["amount"] * 2', 'np.roll(c["amount"], -1)', LeakageError, "feature 'doubled' of view 'size' depends on other"),
    ('c["amount"] * 2', 'c["amount"] - c["amount"].mean()', LeakageError, "can read the future"),
    ("windows=(timedelta(hours=2),)", "windows=(timedelta(hours=-2),)", LeakageError, "'recent' has the window -1 day"),
    ("windows=(timedelta(hours=2),)", "windows=(timedelta(minutes=90),)", UseCaseError, "no multiple of its tile"),
    ('entity="shop"', 'entity="store"', UseCaseError, "keyed by 'store', which is no entity"),
    ('source="sales"', 'source="orders"', UseCaseError, "reads the source 'orders', which is not declared"),
    ('kind="count"', 'kind="sum", field="shop"', UseCaseError, "needs a numeric field"),
    ('kind="count"', 'kind="median"', UseCaseError, "has the kind 'median'"),
    ('kind="count"', 'kind="count", field="amount"', UseCaseError, "is a 'count' of the field 'amount'"),
    ('kind="count"', 'kind="mean"', UseCaseError, "is a 'mean' of the field None"),
    ('kind="count"', 'kind="sum", field="amount", resolution=0', UseCaseError, "has the resolution 0"),
    ('name="sample"', 'name="Sample Case"', UseCaseError, "is not a usable name"),
    ('dtype="float")', 'dtype="float"), 1/0', UseCaseError, "ZeroDivisionError"),
    ("sample = UseCase(", "other = dict(", UseCaseError, "declares 0 use cases"),
    ('c["amount"] * 2', 'c["price"] * 2', UseCaseError, "view 'size' fails on sample rows (KeyError"),
    ('{"doubled": ', '{"tripled": ', UseCaseError, "does not return its output 'doubled'"),
]  # fmt: skip


@pytest.mark.parametrize("name", [*RESERVED_NAMES, "f__size", "k__recent"])
def test_fields_are_not_named_like_the_logs_own_columns(name: str) -> None:
    use_case, own = sample_use_case(), Field(name=name, dtype="float")
    sales = replace(SALES, fields=(*SALES.fields, own))
    for faulty in (replace(use_case, request=(own,)), replace(use_case, sources=(sales,))):
        with pytest.raises(UseCaseError, match=f"field '{name}' of .* unusable name.*generation"):
            faulty.validate()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    def write_file(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def test_a_good_file_is_found(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("sample.py", GOOD)
    write("_private.py", "1/0")
    found = discover(tmp_path)
    assert list(found) == ["sample"]
    assert found["sample"].use_case.features.columns == ("doubled", "recent_sales_2h")
    assert select(found, "sample") is found["sample"]
    with pytest.raises(UnknownUseCase, match="Use one of: sample"):
        select(found, "samples")


@pytest.mark.parametrize(("part", "instead", "error", "sentence"), FAULTS)
def test_a_fault_is_named(
    write: Callable[[str, str], Path], part: str, instead: str, error: type[UseCaseError], sentence: str
) -> None:
    assert part in GOOD
    path = write("sample.py", GOOD.replace(part, instead))
    with pytest.raises(error) as caught:
        load_use_case(path)
    assert sentence in str(caught.value)
    assert "sample.py" in str(caught.value)


def test_what_is_digested_is_what_runs_and_nothing_is_left_beside(
    write: Callable[[str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for description in ("one", "two"):  # as long, and written within the same second
        path = write("a.py", GOOD.replace("Will it sell?", description))
        assert load_use_case(path).use_case.description == description
    assert [file.name for file in tmp_path.iterdir()] == ["a.py"]


def test_two_files_with_one_name_are_both_named(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("a.py", GOOD)
    write("b.py", GOOD)
    with pytest.raises(DuplicateUseCase) as caught:
        discover(tmp_path)
    assert "a.py" in str(caught.value)
    assert "b.py" in str(caught.value)


def test_a_shared_source_must_have_the_same_fields(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    write("a.py", GOOD)
    write("b.py", GOOD.replace('name="sample"', 'name="other"').replace("fields=(shop, amount)", "fields=(shop,)"))
    with pytest.raises(UseCaseError, match="event source 'sales' with other fields"):
        discover(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(UseCaseError, match="EVERGREEN_MODELS_DIR"):
        discover(tmp_path / "nowhere")
