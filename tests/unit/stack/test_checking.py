from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import StackError, UnknownUseCase
from stack.checking import check_use_cases

ROOT = Path(__file__).resolve().parents[3]
USE_CASE = """
from datetime import timedelta
from core.use_case import Field, History, Label, UseCase
from features.definitions import FeatureSet, RequestView
{imports}
view = RequestView(name="v", inputs=("size",), outputs=("size",), compute=lambda c: {{"size": c["size"]}})
use_case = UseCase(
    name="{name}", description="", entities=(Field(name="shop", dtype="int"),),
    request=(Field(name="size", dtype="float"),), sources=(), features=FeatureSet((view,)),
    label=Label(name="sold", horizon=timedelta(days=1), known_only_after=()),
    estimator=lambda columns: {estimator}, history=lambda folder: History(None, None, {{}}),
)
"""


def write(folder: Path, name: str, estimator: str, imports: str = "", file: str = "") -> None:
    text = USE_CASE.format(name=name, estimator=estimator, imports=imports)
    (folder / f"{file or name}.py").write_text(text)


LOGISTIC = {"estimator": "LogisticRegression()", "imports": "from sklearn.linear_model import LogisticRegression"}
NEIGHBOURS = {"estimator": "object()", "imports": ""}


def test_a_sound_file_is_described(tmp_path: Path) -> None:
    write(tmp_path, "sale", **LOGISTIC)
    (verdict,) = check_use_cases(tmp_path)
    assert verdict.ok
    assert "1 features of shop" in verdict.detail
    assert "LogisticRegression agrees with its ONNX graph" in verdict.detail


def test_an_estimator_that_cannot_be_fitted_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "sale", **NEIGHBOURS)
    (verdict,) = check_use_cases(tmp_path)
    assert not verdict.ok
    assert "sale.py: the estimator fails on made-up rows" in verdict.detail


def test_an_estimator_that_does_not_convert_is_refused(tmp_path: Path) -> None:
    imports = "from sklearn.ensemble import HistGradientBoostingClassifier"
    write(tmp_path, "sale", "HistGradientBoostingClassifier(max_iter=2, categorical_features=[0])", imports)
    (verdict,) = check_use_cases(tmp_path)
    assert not verdict.ok
    assert "cannot be converted to ONNX" in verdict.detail


def test_quick_leaves_the_estimator_alone(tmp_path: Path) -> None:
    write(tmp_path, "sale", **NEIGHBOURS)
    (verdict,) = check_use_cases(tmp_path, quick=True)
    assert verdict.ok


def test_one_bad_file_does_not_hide_the_others(tmp_path: Path) -> None:
    write(tmp_path, "sale", **LOGISTIC)
    (tmp_path / "broken.py").write_text("raise RuntimeError('no')")
    verdicts = {verdict.use_case: verdict for verdict in check_use_cases(tmp_path, quick=True)}
    assert verdicts["sale"].ok
    assert "RuntimeError: no" in verdicts["broken"].detail


def test_two_files_of_one_name_are_refused_together(tmp_path: Path) -> None:
    write(tmp_path, "sale", **LOGISTIC)
    write(tmp_path, "sale", **LOGISTIC, file="sale_again")
    *_, together = check_use_cases(tmp_path, quick=True)
    assert not together.ok
    assert "sale.py" in together.detail
    assert "sale_again.py" in together.detail


def test_an_unknown_name_lists_those_there_are(tmp_path: Path) -> None:
    write(tmp_path, "sale", **LOGISTIC)
    with pytest.raises(UnknownUseCase, match="sale"):
        check_use_cases(tmp_path, "nonesuch", quick=True)


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="There is no use case"):
        check_use_cases(tmp_path)


@pytest.mark.parametrize("where", ["taxi_tip.py", "taxi_tip.policy.json"])
def test_a_policy_that_cannot_be_followed_is_said_wherever_it_stands(where: str, tmp_path: Path) -> None:
    source = (ROOT / "models" / "taxi_tip.py").read_text()
    if where == "taxi_tip.py":
        assert "performance_drop=0.1" in source
        source = source.replace("performance_drop=0.1", "performance_drop=-0.1")
    else:
        (tmp_path / where).write_text('{"policy": {"performance_drop": -0.1}}')
    (tmp_path / "taxi_tip.py").write_text(source)

    (verdict,) = check_use_cases(tmp_path, None, quick=True)

    assert not verdict.ok
    said = "taxi_tip: has the Policy.performance_drop -0.1. Use more than zero."
    assert f"{tmp_path / where}: {said}" in verdict.detail
