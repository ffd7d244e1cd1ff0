"""A Prefect that is busy is asked again, and one that stays so is said to be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from core.errors import DependencyDown
from serving.gateway.console.flow_runs import FlowRuns


@contextmanager
def prefect(answers: list[int]) -> Iterator[str]:
    """A server that answers with these, one after the other, and keeps to the last; its URL."""

    class Busy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = answers.pop(0) if len(answers) > 1 else answers[0]
            body = b'{"id": "a run", "state_type": "COMPLETED"}' if status == 200 else b"{}"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Busy) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api"
        server.shutdown()
        thread.join()


def test_a_busy_prefect_is_asked_again() -> None:
    with prefect([503, 503, 200]) as url, closing(FlowRuns(url)) as flows:
        assert flows.run("x").is_final


@pytest.mark.parametrize(
    ("answers", "says"), [([503], "status 503"), ([500, 200], "status 500"), ([404, 200], "does not know")]
)
def test_what_asking_again_does_not_mend_is_told(answers: list[int], says: str) -> None:
    with (
        prefect(answers) as url,
        closing(FlowRuns(url, timeout_s=0.5)) as flows,
        pytest.raises(DependencyDown, match=says),
    ):
        flows.run("x")
