from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from core.errors import DependencyDown
from serving.torchserve.tokens import Tokens


def write(path: Path, inference: str, mtime: int) -> None:
    path.write_text(json.dumps({"inference": {"key": inference}, "management": {"key": "m"}, "API": {"key": "a"}}))
    os.utime(path, (mtime, mtime))


def test_tokens_of_a_restarted_torchserve_are_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "key_file.json"
    tokens = Tokens(path)
    write(path, "first", 1000)
    assert (tokens.inference(), tokens.management()) == ("first", "m")
    write(path, "again", 2000)
    assert tokens.inference() == "again"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"inference": 1}'])
def test_a_file_that_is_being_written_means_not_there_yet(tmp_path: Path, content: str) -> None:
    path = tmp_path / "key_file.json"
    path.write_text(content)
    with pytest.raises(DependencyDown, match="TorchServe does not answer"):
        Tokens(path).inference()


def test_without_a_file_torchserve_has_not_started(tmp_path: Path) -> None:
    with pytest.raises(DependencyDown, match="has not written"):
        Tokens(tmp_path / "key_file.json").management()
