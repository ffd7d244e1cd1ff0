"""The work itself, written by hand: 20 features of a user and 20 of each ad from Redis, 8 of the call, one network.

NumPy and ONNX Runtime only: it runs in the peers' environments. The peers call it, each in its own way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnxruntime

from bench.workload import FIELDS, STORED

Matrix = npt.NDArray[np.float32]
_STORED_BYTES = STORED * 4


def keys(call: Mapping[str, Any]) -> list[str]:
    """What to read from Redis for a call: the user's features, then each ad's."""
    return [f"bare:user:{call['user']}", *[f"bare:ad:{ad}" for ad in call["ads"]]]


def matrix(call: Mapping[str, Any], found: Sequence[bytes]) -> Matrix:
    """The features of a call, shape (ads, 48).

    Args:
        call: the fields, and ``ads``.
        found: what Redis holds under `keys`.
    """
    X = np.empty((len(found) - 1, 2 * STORED + len(FIELDS)), dtype=np.float32)
    X[:, :STORED] = np.frombuffer(found[0], dtype=np.float32)
    X[:, STORED : 2 * STORED] = np.frombuffer(b"".join(found[1:]), dtype=np.float32).reshape(-1, STORED)
    X[:, 2 * STORED :] = [call[name] for name in FIELDS]
    return X


def score_many(
    mget: Callable[[list[str]], Any], network: Network, calls: Sequence[Mapping[str, Any]]
) -> list[list[float]]:
    """The scores of each of several calls, with one read and one run for all."""
    asked = [keys(call) for call in calls]
    found, parts, start = mget([key for each in asked for key in each]), [], 0
    for call, each in zip(calls, asked, strict=True):
        parts.append(matrix(call, found[start : start + len(each)]))
        start += len(each)
    scores = network.scores(np.concatenate(parts)).tolist()
    ends = np.cumsum([len(part) for part in parts]).tolist()
    return [scores[end - len(part) : end] for part, end in zip(parts, ends, strict=True)]


class Network:
    """The network, on one thread.

    Args:
        path: of the ONNX file.
    """

    def __init__(self, path: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def scores(self, X: Matrix) -> Matrix:
        """Shape (n,) for n rows."""
        return cast(Matrix, self._session.run(["scores"], {"X": X})[0])
