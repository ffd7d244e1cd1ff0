"""Every shape of table becomes a use case that loads, reads its past as it was looked at, and is formatted."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from core.use_case import History, UseCase
from stack.scaffold.deciding import declare
from stack.scaffold.declaration import Choices, Declaration
from stack.scaffold.labels import outcomes
from stack.scaffold.tables import read_table
from stack.scaffold.times import moments
from stack.scaffold.writing import write_use_case
from tests.tables import shapes

ROOT = Path(__file__).resolve().parents[4]
SHAPES = shapes()
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Made:
    table: pd.DataFrame
    declared: Declaration
    use_case: UseCase
    history: History


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("new")


@pytest.fixture(scope="module")
def made(folder: Path) -> Iterator[dict[str, Made]]:
    found = {}
    for number, (shape, (table, choices)) in enumerate(SHAPES.items()):
        name = f"case_{number}"
        # what a file keeps of a table is what counts
        as_csv = (number % 2 and choices.zone is None) or shape == "numbers with stray texts"
        path = folder / f"{name}.{'csv' if as_csv else 'parquet'}"
        if path.suffix == ".csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, index=False)
        read = read_table(path)
        declared = declare(name, read, choices)
        written = write_use_case(declared, read, path, models_dir=folder / "models", data_dir=folder)
        use_case = written.loaded.use_case
        found[shape] = Made(read, declared, use_case, use_case.history(folder))
    yield found


@pytest.mark.parametrize("shape", SHAPES)
def test_the_history_is_the_table(made: dict[str, Made], shape: str) -> None:
    one = made[shape]
    history, fields = one.history, [f.name for f in one.use_case.request_fields]
    assert list(history.requests.columns) == ["key", "at", *fields]
    assert list(history.labels.columns) == ["key", "label", "at"]
    assert history.requests["key"].is_unique
    for frame in (history.requests, history.labels, *history.events.values()):
        assert frame["at"].is_monotonic_increasing
        assert str(frame["at"].dtype) == "datetime64[us, UTC]"
    for field in one.use_case.request_fields:
        assert field.nullable or history.requests[field.name].notna().all(), field.name
    at = moments(one.table, one.declared.time)
    assert sorted(at.dropna()) == list(history.requests["at"])
    place = history.labels["key"].str.rsplit("-", n=1).str[1].astype(int)
    known = outcomes(one.table, one.declared.label).where(at.notna())
    assert (known.iloc[place].to_numpy() == history.labels["label"].to_numpy()).all()
    asked = history.requests.set_index("key")["at"].reindex(history.labels["key"]).to_numpy()
    delay = history.labels["at"].to_numpy() - asked
    assert delay.min() > pd.Timedelta(0)
    assert delay.max() <= one.use_case.label.horizon
    # training sees what is known at the moment of a question, the replay what was sent a tick before it
    if one.declared.label_time is None:
        assert delay.max() <= one.use_case.label.horizon - min(one.declared.rhythm.tick, one.declared.horizon / 2)
    assert len(history.labels) >= 0.97 * known.notna().sum()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_replay_has_rows_to_train_on_and_to_answer(made: dict[str, Made], shape: str) -> None:
    one = made[shape]
    span, policy = one.use_case.replay, one.use_case.policy
    assert span is not None
    asked = one.history.requests["at"]
    due = one.history.labels.merge(one.history.requests[["key", "at"]], on="key")["at_y"]
    first = (due > span.start) & (due <= span.first_training - one.use_case.label.horizon)
    assert first.sum() >= policy.min_rows > policy.holdout_rows
    assert (asked > span.first_training).sum() >= 30
    assert asked.max() <= span.end
    assert span.tick <= one.use_case.features.lateness  # type: ignore[attr-defined]


def test_the_files_are_formatted_and_pass_the_checks(made: dict[str, Made], folder: Path) -> None:
    ruff = [str(Path(sys.executable).with_name("ruff"))]
    config = ["--config", str(ROOT / "pyproject.toml"), "--no-cache", str(folder / "models")]
    for command in (["format", "--diff"], ["check"]):
        done = subprocess.run([*ruff, *command, *config], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-4000:]


def test_wide_tables_stay_short(made: dict[str, Made]) -> None:
    assert len(made["wide"].declared.request) == 197


@pytest.mark.parametrize(
    ("shape", "entities"),
    [
        ("plain", {"shop"}), ("no key", {"scope"}), ("long ids", {"shop", "customer_id"}),
        ("ids with gaps", {"shop", "customer_id"}), ("ids with zeros before", {"shop", "store_code"}),
        ("many ids", {"shop"}), ("names that are reserved", {"key_value"}),
    ],
)  # fmt: skip
def test_keys_are_guessed(made: dict[str, Made], shape: str, entities: set[str]) -> None:
    assert {f.name for f in made[shape].use_case.entities} == entities


def test_what_nobody_needs_is_left_out_and_named(made: dict[str, Made]) -> None:
    left = made["constant columns"].declared.left_out
    assert set(left) == {"currency", "rate", "empty"}
    assert "same value" in left["currency"] and "empty" in left["empty"]


def test_the_time_of_the_label_is_found(made: dict[str, Made]) -> None:
    declared = made["a label's own time"].declared
    assert declared.label_time is not None and declared.label_time.columns == ("closed_at",)
    assert "closed_at" in declared.only_after
    assert "closed_at" not in {f.name for f in declared.request}


def test_options_are_followed() -> None:
    table, _ = SHAPES["plain"]
    declared = declare("x", table, Choices(entities=("pieces",), drop=("shop",)))
    assert [f.name for f in declared.entities] == ["pieces"]
    assert [f.name for f in declared.request] == ["price"]
    assert declared.left_out == {"shop": "you said so"}
