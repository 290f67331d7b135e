"""The health check of the images: its exit code is what Docker goes by, its words are what `docker inspect` shows."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from local.processes import free_port


@contextmanager
def a_role(status: int) -> Iterator[str]:
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"parts": {"database": "away"}}')

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/readyz"
        server.shutdown()


def probe(url: str) -> subprocess.CompletedProcess[str]:
    environment = {"http_proxy": "http://127.0.0.1:9"}  # one of the machine must not be asked
    command = [sys.executable, "-m", "shared.probe", url]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1), (404, 1)])
def test_the_exit_code_says_whether_the_role_is_ready(status: int, code: int) -> None:
    with a_role(status) as url:
        assert probe(url).returncode == code


def test_a_role_that_is_not_ready_is_quoted() -> None:
    with a_role(503) as url:
        assert probe(url).stderr == '503 {"parts": {"database": "away"}}\n'


def test_nobody_there_is_not_ready() -> None:
    ended = probe(f"http://127.0.0.1:{free_port()}/readyz")
    assert ended.returncode == 1
    assert "refused" in ended.stderr
