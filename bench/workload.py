"""What every server is asked in the serving benchmarks: 48 features, a network 48 → 64 → 32 → 1, two shapes of call.

Twenty features are a user's and twenty an ad's, both in Redis; eight come with the call. The same numbers every time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

USERS = 10_000
ADS = 10_000
STORED = 20
FIELDS = tuple(f"f{i}" for i in range(8))
SHAPES = {"one": 1, "rank": 50, "many": 250}
DIFFERENT = 500
_WIDTHS = (2 * STORED + len(FIELDS), 64, 32, 1)

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Ask:
    """One call: a user, and the ads to be scored for it.

    Args:
        user: whose.
        ads: which, no ad twice.
        fields: values of `FIELDS`, the same for all ads.
    """

    user: int
    ads: tuple[int, ...]
    fields: tuple[float, ...]

    @property
    def context(self) -> dict[str, Any]:
        """What is the same for all ads."""
        return {"user": self.user, **dict(zip(FIELDS, self.fields, strict=True))}


def asks(shape: str, different: int = DIFFERENT) -> list[Ask]:
    """Calls of a shape, to be sent over and over."""
    rng = np.random.default_rng((7, SHAPES[shape]))
    fields = np.round(rng.standard_normal((different, len(FIELDS))), 3)
    return [
        Ask(int(rng.integers(USERS)), tuple(rng.choice(ADS, SHAPES[shape], replace=False).tolist()), tuple(row))
        for row in fields.tolist()
    ]


@cache
def stored(view: str) -> Matrix:
    """The features of every ``user`` or every ``ad``, shape (10,000, 20)."""
    rng = np.random.default_rng((8, ("user", "ad").index(view)))
    return rng.standard_normal(({"user": USERS, "ad": ADS}[view], STORED), dtype=np.float32)


def matrix(ask: Ask) -> Matrix:
    """The features of a call, shape (ads, 48): the user's, the ad's, the call's."""
    n = len(ask.ads)
    own = np.broadcast_to(stored("user")[ask.user], (n, STORED))
    fields = np.broadcast_to(np.array(ask.fields, dtype=np.float32), (n, len(FIELDS)))
    return np.concatenate([own, stored("ad")[list(ask.ads)], fields], axis=1)


def model_bytes() -> bytes:
    """The network as ONNX: ``X`` float32 [n, 48] → ``scores`` float32 [n]."""
    from onnx import TensorProto, helper, numpy_helper

    rng, nodes, weights, last = np.random.default_rng(9), [], [], "X"
    for i, (inputs, outputs) in enumerate(pairwise(_WIDTHS)):
        w = rng.standard_normal((inputs, outputs), dtype=np.float32) / np.float32(inputs**0.5)
        b = rng.standard_normal(outputs, dtype=np.float32) / np.float32(10)
        weights += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], [f"layer{i}"]))
        nodes.append(helper.make_node("Relu" if outputs > 1 else "Sigmoid", [f"layer{i}"], [f"out{i}"]))
        last = f"out{i}"
    weights.append(numpy_helper.from_array(np.array([-1], dtype=np.int64), "flat"))
    nodes.append(helper.make_node("Reshape", [last, "flat"], ["scores"]))
    taken = [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["n", _WIDTHS[0]])]
    given = [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph(nodes, "ranker", taken, given, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = model.SerializeToString()
    return serialized


def expected(questions: list[Ask]) -> list[Matrix]:
    """The scores of calls, by ONNX Runtime directly."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model_bytes(), providers=["CPUExecutionProvider"])
    return [session.run(["scores"], {"X": matrix(ask)})[0] for ask in questions]
