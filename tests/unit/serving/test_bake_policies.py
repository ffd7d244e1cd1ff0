from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from core.serving_policy import Bake
from serving.bake_policies import BakePolicies
from tests.torchserve_process import use_case_file

DECLARED = use_case_file("toy") + (
    "\nfrom dataclasses import replace\nfrom core.serving_policy import Bake, Serving\n"
    "use_case = replace(use_case, serving=Serving(bake=Bake(period=timedelta(seconds=SECONDS))))\n"
)


def test_a_policy_is_that_of_the_file_as_it_is_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    policies, path = BakePolicies(tmp_path), tmp_path / "toy.py"
    (tmp_path / "a_broken.py").write_text("raise RuntimeError('broken')")
    path.write_text(DECLARED.replace("SECONDS", "7"))
    for _ in range(2):
        assert policies("toy").period == timedelta(seconds=7)
    assert caplog.text == "", "no other file is run for it"
    policies("other")
    policies("other")
    assert caplog.text.count("a_broken.py is left out") == 1
    path.write_text(DECLARED.replace("SECONDS", "8"))
    os.utime(path, ns=(1, 1))
    assert policies("toy").period == timedelta(seconds=8)


def test_what_nobody_declares_bakes_by_the_defaults(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert BakePolicies(tmp_path / "none")("toy") == Bake()
    assert "declares toy" in caplog.text
