from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from core.errors import DigestMismatch
from registry.digests import verify_folder
from registry.scorer import OnnxScorer
from stack.drill.spoiled import BadAnswers, BadArtifact
from tests.torchserve_process import make_version

ROWS = np.array([[3.0, 2.0], [1.0, 0.0]], dtype=np.float32)


def test_a_bad_artifact_differs_from_its_manifest_which_differs_from_the_live_versions(tmp_path: Path) -> None:
    before = verify_folder(make_version(tmp_path / "v"))
    digest = BadArtifact()._spoil(tmp_path / "v")
    assert digest != before
    with pytest.raises(DigestMismatch, match=r"model\.onnx"):
        verify_folder(tmp_path / "v", digest=digest)


def test_bad_answers_come_from_an_artifact_that_is_what_it_says(tmp_path: Path) -> None:
    folder = make_version(tmp_path / "v")
    good = OnnxScorer((folder / "model.onnx").read_bytes()).score(ROWS)
    digest = BadAnswers()._spoil(folder)
    assert verify_folder(folder, digest=digest) == digest
    bad = OnnxScorer((folder / "model.onnx").read_bytes()).score(ROWS)
    np.testing.assert_allclose(bad, good + 2, rtol=1e-6)


def test_two_drills_of_the_same_version_do_not_register_the_same(tmp_path: Path) -> None:
    digests = {BadArtifact()._spoil(make_version(tmp_path / f"v{i}")) for i in range(2)}
    assert len(digests) == 2
