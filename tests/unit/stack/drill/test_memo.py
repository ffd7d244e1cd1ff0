from __future__ import annotations

from pathlib import Path

import pytest

from core.errors import StackError
from stack.drill.memo import Memo, MemoFile


def test_a_memo_is_read_as_it_was_written_until_it_is_forgotten(tmp_path: Path) -> None:
    memos, memo = MemoFile(tmp_path), Memo("taxi_tip", {"champion": "2"}, {"a": "b"}, moved=("2", "1"))
    assert memos.read() is None
    memos.write(memo)
    memos.write(memo.having(made=("3",), silenced=("hook",)))
    assert MemoFile(tmp_path).read() == Memo("taxi_tip", {"champion": "2"}, {"a": "b"}, ("2", "1"), ("3",), ("hook",))
    memos.forget()
    memos.forget()
    assert memos.read() is None


def test_a_memo_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "drill.json").write_text('{"use_case": "taxi_tip"')
    with pytest.raises(StackError, match="cannot be read"):
        MemoFile(tmp_path).read()


def test_only_one_drill_at_a_time(tmp_path: Path) -> None:
    with MemoFile(tmp_path).alone(), pytest.raises(StackError, match="under way"), MemoFile(tmp_path).alone():
        pass
    with MemoFile(tmp_path).alone():
        pass
