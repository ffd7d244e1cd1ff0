import pytest

from bench.http_bytes import Kept, is_whole, request_bytes
from bench.load import KEEP_EVERY, closed_loop
from tests.unit.bench.conftest import reply

REQUESTS = [request_bytes("/predict", b"%d" % i) for i in range(7)]


@pytest.mark.parametrize("connections", [1, 5])
def test_every_answer_is_counted_and_some_are_kept_with_what_was_asked(serving, connections):
    with serving(lambda body, asked: [reply(body)]) as port:
        run = closed_loop(port, REQUESTS, connections=connections, seconds=0.3, warm_s=0.05)
    assert list(run.statuses) == [200]
    assert run.statuses[200] == len(run.latency_s) > 0
    assert run.rate == pytest.approx(len(run.latency_s) / run.seconds)
    assert 0 < run.percentile_ms(50) <= run.percentile_ms(99)
    assert run.own_cpu > 0  # the server is a thread of this process, so that its share is in it
    assert len(run.kept) == (len(run.latency_s) - 1) // KEEP_EVERY + 1
    assert {kept.body for kept in run.kept if kept.body != b"%d" % kept.request} == set()


def test_an_answer_may_come_in_pieces_and_in_chunks(serving):
    chunked = [b"HTTP/1.1 200 OK\r\nTransfer-Enc", b"oding: chunked\r\n\r\n2\r\n{\r\r\n", b"1\r\n}\r\n0\r\n", b"\r\n"]
    with serving(lambda body, asked: chunked) as port:
        run = closed_loop(port, REQUESTS, connections=2, seconds=0.1, warm_s=0.02)
    assert list(run.statuses) == [200]
    assert run.kept[0].body == b"{\r}"
    assert run.kept[0].head.startswith(b"HTTP/1.1 200")


def test_refusals_and_hang_ups_are_counted_and_no_latency_is_taken_of_them(serving):
    def answer(body, asked):
        return [] if asked == 2 else [reply(b"", 503 if asked else 200)]

    with serving(answer) as port:
        run = closed_loop(port, REQUESTS, connections=1, seconds=0.2, warm_s=0.02)
    assert set(run.statuses) == {200, 503, 0}
    assert len(run.latency_s) == run.statuses[200]


def test_an_answer_is_whole_when_all_of_its_body_is_there():
    assert not is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n")
    assert not is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{")
    assert is_whole(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
    assert not is_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n")
    assert is_whole(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")


def test_a_body_is_put_together_from_its_chunks():
    assert Kept(0, b"HTTP/1.1 200 OK\r\n\r\na;x=1\r\n0123456789\r\n1\r\na\r\n0\r\n\r\n").body == b"0123456789a"
