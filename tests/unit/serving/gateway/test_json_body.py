from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import TooLarge
from serving.gateway.json_body import ClientGone, parse_object, read_body
from serving.gateway.problems import MalformedBody

pytestmark = pytest.mark.anyio

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(scalars | texts, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=20)
objects = st.dictionaries(texts, values)


@given(objects, st.booleans())
def test_reads_what_json_is(document: dict[str, Any], ascii_only: bool) -> None:
    assert parse_object(json.dumps(document, ensure_ascii=ascii_only).encode()) == document


@given(objects, st.lists(objects, max_size=3), texts, st.data())
def test_refuses_a_key_that_stands_twice_wherever_it_stands(
    document: dict[str, Any], rows: list[dict[str, Any]], key: str, data: st.DataObject
) -> None:
    body = json.dumps({"instances": [*rows, {"MARK": document}], "z": document})
    twice = "{" + f"{json.dumps(key)}: 1, {json.dumps(key)}: ".replace("\\", "\\") + "2}"
    place = data.draw(st.sampled_from(['{"MARK"', '"z": ']))
    body = body.replace(place, f'{place[:-1]}":{twice}, "MARK2"' if place.startswith("{") else f'"y": {twice}, "z": ')
    json.loads(body)
    with pytest.raises(MalformedBody, match="stands twice"):
        parse_object(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"3",
        b"null",
        b'"text"',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e400}',
        b'{"a": 1} trailing',
        b'{"a": 01}',
        b"{'a': 1}",
        b'{"a": "\\ud800"}',
        b'{"a": "\xff"}',
        b"\xef\xbb\xbf{}",
        b'{"a": 1, "a": 1}',
        b'{"a": 1, "\\u0061": 2}',
        b'{"instances": [{"at": "10:00:00", "at": "\\u003a"}]}',
        b'{"a": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"b": 1, "b": ' + b"9" * 300 + b"}",
        b'{"\\\\": ' + b"[" * 1000 + b"]" * 1000 + b"}",
    ],
)
def test_refuses_what_is_not_one_strict_object(body: bytes) -> None:
    with pytest.raises(MalformedBody) as caught:
        parse_object(body)
    assert len(caught.value.detail) < 300
    assert caught.value.remedy


def test_long_whole_numbers_beside_a_backslash_are_read() -> None:
    assert parse_object(b'{"a": "\\n", "b": 123456789012345678}')["b"] == 123456789012345678


class _Client:
    """Sends chunks one by one and counts how many were taken."""

    def __init__(self, *chunks: bytes, gone: bool = False) -> None:
        self._chunks = list(chunks)
        self._gone = gone
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        if self.taken == len(self._chunks) and self._gone:
            return {"type": "http.disconnect"}
        self.taken += 1
        more = self.taken < len(self._chunks) or self._gone
        return {"type": "http.request", "body": self._chunks[self.taken - 1], "more_body": more}


async def test_reads_chunks_up_to_the_limit() -> None:
    assert await read_body([], _Client(b"ab", b"", b"cd").receive, 4) == b"abcd"
    assert await read_body([(b"content-length", b"4")], _Client(b"abcd").receive, 4) == b"abcd"


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    for length in (b"5", b"9" * 5000):
        client = _Client(b"abcde")
        with pytest.raises(TooLarge):
            await read_body([(b"content-length", length)], client.receive, 4)
        assert client.taken == 0


async def test_an_undeclared_length_over_the_limit_is_refused_while_reading() -> None:
    client = _Client(*[b"abc"] * 100)
    with pytest.raises(TooLarge):
        await read_body([], client.receive, 4)
    assert client.taken == 2


async def test_a_client_that_goes_away_is_not_an_error() -> None:
    with pytest.raises(ClientGone):
        await read_body([], _Client(b"abc", gone=True).receive, 10)
