"""`python -m shared.probe [URL]`: the health check of the images, which hold no curl; says what is not ready.

Written with sockets alone: it runs every few seconds in each container, and an HTTP library costs three times as much
to load as all of this takes (measured).
"""

from __future__ import annotations

import socket
import sys
from typing import Final

# Every role listens there in its container.
READY: Final = "http://127.0.0.1:8000/readyz"
_SECONDS: Final = 10.0
_MOST_BYTES: Final = 4_096


def main(url: str = READY) -> None:
    """End with 0 if a role answers that it is ready, else with 1 and what it said."""
    try:
        answer = _get(url)
    except OSError as error:
        sys.exit(str(error))
    head, _, body = answer.partition(b"\r\n\r\n")
    status = head.split(b"\r\n", 1)[0].split(b" ")[1:2]
    if status != [b"200"]:
        sys.exit(b" ".join([*status, body]).decode(errors="replace"))


def _get(url: str) -> bytes:
    scheme, _, rest = url.partition("://")
    address, _, path = rest.partition("/")
    host, _, port = address.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=_SECONDS)
    if scheme == "https":
        import ssl  # noqa: PLC0415  only the sandbox speaks TLS

        connection = ssl.create_default_context().wrap_socket(connection, server_hostname=host)
    with connection:
        connection.sendall(f"GET /{path} HTTP/1.0\r\nhost: {address}\r\n\r\n".encode())
        answer = b""
        while len(answer) < _MOST_BYTES and (part := connection.recv(_MOST_BYTES)):
            answer += part
    return answer


if __name__ == "__main__":
    main(*sys.argv[1:2])
