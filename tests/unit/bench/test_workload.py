import numpy as np
import onnxruntime
import pytest

from bench.servers.scoring import Network, keys, matrix, score_many
from bench.servers.service import Service, context_and_ads, require_right, wanted_scores
from bench.servers.v2 import batched_tensors
from bench.workload import FIELDS, SHAPES, asks, expected, model_bytes, stored
from bench.workload import matrix as matrix_of


def test_the_same_is_asked_every_time_and_no_ad_twice():
    for shape, n in SHAPES.items():
        assert asks(shape, 3) == asks(shape, 3)
        assert all(len(set(ask.ads)) == n for ask in asks(shape, 3))


def test_the_network_is_the_one_of_the_issue():
    session = onnxruntime.InferenceSession(model_bytes())
    X = np.random.default_rng(0).standard_normal((5, 48), dtype=np.float32)
    scores = session.run(["scores"], {"X": X})[0]
    assert scores.shape == (5,)
    assert ((scores > 0) & (scores < 1)).all()
    assert np.ptp(scores) > 0.01
    assert b"w0" in model_bytes() and model_bytes() == model_bytes()


def test_what_peers_compute_is_what_is_expected(tmp_path):
    (tmp_path / "model.onnx").write_bytes(model_bytes())
    network, questions = Network(str(tmp_path / "model.onnx")), asks("one", 2) + asks("rank", 2)
    redis = {f"bare:{view}:{i}": row.tobytes() for view in ("user", "ad") for i, row in enumerate(stored(view))}
    calls = [context_and_ads(ask) for ask in questions]
    for ask, call in zip(questions, calls, strict=True):
        np.testing.assert_array_equal(matrix(call, [redis[key] for key in keys(call)]), matrix_of(ask))
    many = score_many(lambda names: [redis[name] for name in names], network, calls)
    for scores, wanted in zip(many, expected(questions), strict=True):
        np.testing.assert_allclose(scores, wanted, atol=1e-6)


def test_a_wrong_answer_fails_the_run(serving):
    from bench.load import closed_loop
    from tests.unit.bench.conftest import reply

    service = Service("peer", 0, "/predict", scores=lambda body: [float(body)])
    requests = service.requests("one")
    right = {
        request.rpartition(b"\r\n\r\n")[2]: scores
        for request, scores in zip(requests, wanted_scores("one"), strict=True)
    }
    for change, status, complaint in ((0.0, 200, None), (0.01, 200, "is not"), (0.0, 503, "503")):
        with serving(lambda body, asked, c=change, s=status: [reply(b"%f" % (right[body][0] + c), s)]) as port:
            run = closed_loop(port, requests, connections=1, seconds=0.05, warm_s=0.01)
        if complaint is None:
            require_right(service, "one", run)
        else:
            with pytest.raises(ValueError, match=complaint):
                require_right(service, "one", run)


def test_tensors_hold_the_call():
    ask = asks("rank", 1)[0]
    inputs = {each["name"]: each for each in batched_tensors(ask)["inputs"]}
    assert {name: each["shape"] for name, each in inputs.items()} == {
        "user": [1, 1],
        "ads": [1, 50],
        "fields": [1, len(FIELDS)],
    }
    assert inputs["ads"]["data"] == list(ask.ads)
