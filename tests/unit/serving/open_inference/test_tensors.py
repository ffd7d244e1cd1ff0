from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.utils import deserialize_bytes_tensor, serialize_byte_tensor

from serving.open_inference.tensors import BYTES, FRACTIONS, WHOLE, from_bytes, to_bytes


@given(st.lists(st.text(max_size=20), max_size=10))
def test_texts_are_laid_out_as_tritons_client_does(texts: list[str]) -> None:
    raw = to_bytes(BYTES, texts)
    theirs = serialize_byte_tensor(np.array(texts, dtype=np.object_))
    assert raw == (theirs.item() if theirs.size else b"")
    assert [text.decode() for text in deserialize_bytes_tensor(raw)] == texts
    assert from_bytes(BYTES, len(texts), raw) == texts


@pytest.mark.parametrize("datatype", [*WHOLE, *FRACTIONS])
def test_numbers_survive_the_way_there_and_back(datatype: str) -> None:
    assert from_bytes(datatype, 3, to_bytes(datatype, [1, 0, 100])) == [1, 0, 100]


def test_a_missing_number_is_nan() -> None:
    low, high = from_bytes("FP32", 2, to_bytes("FP32", [None, 0.5]))
    assert math.isnan(low)
    assert high == 0.5


@pytest.mark.parametrize(
    ("datatype", "n", "raw", "problem"),
    [
        ("INT64", 2, b"\x00" * 8, "has 8 bytes, 2 elements of INT64 have 16"),
        ("FP64", 10**20, b"", "has 0 bytes"),
        (BYTES, 1, b"\x01", "ends within element 0"),
        (BYTES, 1, b"\xff\xff\xff\xffab", "ends within element 0"),
        (BYTES, 1, b"\x01\x00\x00\x00\xff", "element 0 is not UTF-8"),
        (BYTES, 2, b"\x01\x00\x00\x00a", "hold 1 elements; 2 are announced"),
        (BYTES, 1, b"\x01\x00\x00\x00ab", "of which 5 hold 1 elements; 1 are announced"),
    ],
)
def test_bytes_that_are_no_such_tensor_are_refused(datatype: str, n: int, raw: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        from_bytes(datatype, n, raw)


@given(st.sampled_from([BYTES, *WHOLE, *FRACTIONS]), st.integers(0, 5), st.binary(max_size=40))
def test_any_bytes_are_read_or_refused(datatype: str, n: int, raw: bytes) -> None:
    try:
        assert len(from_bytes(datatype, n, raw)) == n
    except ValueError as error:
        assert str(error)
