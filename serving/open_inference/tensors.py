"""Tensors of the Open Inference Protocol as bytes, as its binary tensor data extension lays them out.

Source: https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BYTES: Final = "BYTES"
WHOLE: Final[Mapping[str, str]] = {
    "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8",
}  # fmt: skip
"""Datatypes of whole numbers, and what NumPy calls them."""
FRACTIONS: Final[Mapping[str, str]] = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
"""Likewise of floating-point numbers."""
_NUMBERS: Final = {**WHOLE, **FRACTIONS}
_LENGTH: Final = 4  # bytes of the number before each element of a BYTES tensor


def to_bytes(datatype: str, values: Sequence[Any]) -> bytes:
    r"""A tensor's elements, in row-major order, as bytes.

    Args:
        datatype: ``BYTES``, whose elements are texts, or a datatype of numbers.
        values: the elements; None among numbers becomes NaN.

    Example:
        >>> to_bytes("BYTES", ["ab"])
        b'\x02\x00\x00\x00ab'
    """
    if datatype != BYTES:
        return np.array(values, dtype=_NUMBERS[datatype]).tobytes()
    parts = []
    for value in values:
        text = value.encode()
        parts += [len(text).to_bytes(_LENGTH, "little"), text]
    return b"".join(parts)


def from_bytes(datatype: str, n: int, raw: bytes) -> list[Any]:
    """The `n` elements of a tensor: numbers, or texts.

    Raises:
        ValueError: saying, as a clause, why these bytes are not such a tensor.

    Example:
        >>> from_bytes("INT32", 2, to_bytes("INT32", [7, -7]))
        [7, -7]
    """
    if datatype == BYTES:
        return _texts(n, raw)
    kind = np.dtype(_NUMBERS[datatype])
    if len(raw) != n * kind.itemsize:
        raise ValueError(f"has {len(raw)} bytes, {n} elements of {datatype} have {n * kind.itemsize}")
    values: list[Any] = np.frombuffer(raw, dtype=kind).tolist()
    return values


def _texts(n: int, raw: bytes) -> list[str]:
    texts: list[str] = []
    start = 0
    while start < len(raw) and len(texts) < n:
        begin = start + _LENGTH
        end = begin + int.from_bytes(raw[start:begin], "little")
        if len(raw) < max(begin, end):
            raise ValueError(f"ends within element {len(texts)}; each is its length in four bytes, then its bytes")
        try:
            texts.append(raw[begin:end].decode())
        except UnicodeDecodeError as error:
            raise ValueError(f"element {len(texts)} is not UTF-8") from error
        start = end
    if len(texts) != n or start != len(raw):
        raise ValueError(f"has {len(raw)} bytes, of which {start} hold {len(texts)} elements; {n} are announced")
    return texts
