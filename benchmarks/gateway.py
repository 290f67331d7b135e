"""gateway: what the one address costs in front of a service, against other ways to stand there."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import orjson
from joserfc import jwt
from joserfc.jwk import OKPKey

from benchmarks.arena import RUN_DIR, Arena
from benchmarks.contest import Aim, Limit, Row
from local import packages

OURS = "our gateway"
DIRECT = "the service directly"
NGINX = "nginx, plain reverse proxy"
BUSY_NGINX = "nginx with id, limit, log (no token)"
FASTAPI = "FastAPI route around httpx"
LEVELS = (1, 16, 64)
_KEYS = RUN_DIR / "jwks.json"
_TOKENS = RUN_DIR / "tokens.txt"
_READY_SECONDS = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


def row(arena: Arena, *, seconds: float) -> Row:
    """Ask for 1 KB of JSON for so long at each number of connections."""
    _write_tokens()
    nginx = _nginx_program()

    def program(name: str) -> Callable[[int, int], AbstractContextManager[int]]:
        return lambda port, service: arena.running(name, str(port), str(service))

    contenders: dict[str, Callable[[], dict[str, float]]] = {
        OURS: lambda: _measure(arena, seconds, program("our_gateway")),
        FASTAPI: lambda: _measure(arena, seconds, program("fastapi_httpx")),
        DIRECT: lambda: _measure(arena, seconds, None),
    }
    aims = [Aim(FASTAPI, "cpu", 20.0)]
    if nginx:
        contenders[NGINX] = lambda: _measure(arena, seconds, lambda port, up: _nginx(nginx, port, up))
        contenders[BUSY_NGINX] = lambda: _measure(arena, seconds, lambda port, up: _nginx(nginx, port, up, busy=True))
        aims.append(Aim(NGINX, "cpu", 0.1))
    return Row(
        name="gateway",
        title="requests for 1 KB of JSON through a proxy to a service that answers at once",
        contenders=contenders,
        units={
            "cpu": "µs CPU a request (64 connections)",
            **{f"each_{level}": f"µs a request ({level} connections)" for level in LEVELS},
            **{f"added_{level}": f"ms added to the middle answer ({level} connections)" for level in LEVELS},
        },
        aims=aims,
        limits=[Limit("added_16", 1.0)],
        terms=[
            "all: one process (nginx: one worker), kept-alive connections, the same service, the same load generator",
            "ours: path and header check, token (64 different, EdDSA), limits, breaker, trace, metrics and log line on",
            "the others: nothing of that, they pass on what comes; the second nginx has what of it nginx has by itself",
            "CPU: of the proxy alone, by the kernel's accounts; latency: less the service's own, measured just before",
            *([] if nginx else ["nginx is not on this machine and can't be installed, so it does not take part"]),
        ],
        less_is_better=True,
    )


def _measure(
    arena: Arena, seconds: float, proxy: Callable[[int, int], AbstractContextManager[int]] | None
) -> dict[str, float]:
    service, port = _free_port(), _free_port()
    with arena.running("http_service", str(service), str(_KEYS)) as serving:
        _wait_until_open(service)
        if proxy is None:
            return _figures(arena, seconds, service=service, target=service, process=serving)
        with proxy(port, service) as process:
            _wait_until_open(port)
            return _figures(arena, seconds, service=service, target=port, process=process)


def _figures(arena: Arena, seconds: float, *, service: int, target: int, process: int) -> dict[str, float]:
    figures = {}
    _load(arena, target, LEVELS[-1], min(seconds, 1.0))  # warm: connections, code, verified tokens
    for level in LEVELS:
        direct = _load(arena, service, level, seconds / 2)
        before = _cpu_seconds(process)
        through = _load(arena, target, level, seconds)
        figures["cpu"] = (_cpu_seconds(process) - before) / through["requests"] * 1e6
        figures[f"each_{level}"] = 1e6 / through["rate"]
        figures[f"added_{level}"] = 0.0 if target == service else through["middle_ms"] - direct["middle_ms"]
    return figures


def _load(arena: Arena, port: int, connections: int, seconds: float) -> dict[str, float]:
    figures = arena.run("http_load", str(port), str(connections), str(seconds), str(_TOKENS))
    assert figures["wrong"] == 0, f"{figures['wrong']} answers were not 200"
    return figures


def _write_tokens() -> None:
    """Make a key, publish it to the service that stands for auth, and sign a token per connection."""
    key = OKPKey.generate_key("Ed25519", {"kid": "bench", "use": "sig"})
    _KEYS.write_bytes(orjson.dumps({"keys": [key.as_dict(private=False)]}))
    now = int(time.time())
    claims = {
        "iss": "https://partner-hub.local/auth",
        "aud": "partner-hub",
        "iat": now,
        "exp": now + 86_400,
        "roles": ["Admin"],
        "permissions": [],
        "obo": [],
    }
    header = {"alg": "EdDSA", "typ": "at+jwt", "kid": "bench"}
    with _TOKENS.open("w") as file:
        for number in range(1, LEVELS[-1] + 1):
            own = {"sub": str(number), "jti": uuid.uuid4().hex, "sid": str(uuid.uuid4())}
            file.write(jwt.encode(header, claims | own, key, algorithms=["EdDSA"]) + "\n")


def _nginx_program() -> str | None:
    """Find nginx, or install it as the distribution packs it (without starting it)."""
    places = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
    found = shutil.which("nginx", path=places)
    if found is None and packages.can_install():
        packages.install(["nginx-light"])
        found = shutil.which("nginx", path=places)
    return found


# What of a gateway's work nginx does without modules in another language.
_BUSY_HTTP = """
          log_format line escape=json '{"time":"$time_iso8601","id":"$request_id","method":"$request_method",'
            '"path":"$uri","status":$status,"seconds":$request_time,"upstream":"$upstream_response_time"}';
          limit_req_zone $binary_remote_addr zone=calls:10m rate=1000000r/s;
          client_max_body_size 64k;
"""
_BUSY_LOCATION = """
              limit_req zone=calls burst=1000000 nodelay;
              proxy_set_header X-Request-Id $request_id; proxy_set_header X-Forwarded-For $remote_addr;
              proxy_set_header X-Forwarded-Proto $scheme; proxy_set_header Forwarded "";
              add_header X-Request-Id $request_id; add_header X-Content-Type-Options nosniff;
              add_header X-Frame-Options DENY; add_header Referrer-Policy no-referrer;
"""


@contextmanager
def _nginx(binary: str, port: int, service: int, *, busy: bool = False) -> Iterator[int]:
    home = RUN_DIR / "nginx"
    home.mkdir(exist_ok=True)
    temporary = "".join(
        f"{kind}_temp_path {home}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = home / "nginx.conf"
    config.write_text(f"""
        daemon off; worker_processes 1; pid {home}/pid; error_log {home}/error.log;
        events {{ worker_connections 1024; }}
        http {{
          {_BUSY_HTTP if busy else ""}
          access_log {f"{home}/access.log line buffer=64k flush=1s" if busy else "off"};
          {temporary} keepalive_requests 100000000;
          upstream service {{ server 127.0.0.1:{service}; keepalive 128; keepalive_requests 100000000; }}
          server {{
            listen 127.0.0.1:{port};
            location / {{ proxy_pass http://service; proxy_http_version 1.1; proxy_set_header Connection "";
              {_BUSY_LOCATION if busy else ""} }}
          }}
        }}
    """)
    process = subprocess.Popen([binary, "-p", str(home), "-c", str(config), "-e", f"{home}/error.log"])
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(timeout=10)


def _cpu_seconds(process: int) -> float:
    """Say how much CPU a process and its children have used."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(_cpu_seconds(int(child)) for child in children)


def _wait_until_open(port: int) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.monotonic() < deadline, f"nobody listens on port {port}"
            time.sleep(0.05)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
