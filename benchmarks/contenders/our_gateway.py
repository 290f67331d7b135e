"""The gateway as it runs in production, in front of one service: `our_gateway PORT SERVICE_PORT`."""

from __future__ import annotations

import os
import sys

from services.gateway.__main__ import api

UNLIMITED = "1000000000"

if __name__ == "__main__":
    service = f"http://127.0.0.1:{sys.argv[2]}"
    os.environ |= {f"GATEWAY_{name}_URL": service for name in ("AUTH", "REFERRALS", "INVITATIONS", "AUDIT")} | {
        "GATEWAY_PORT": sys.argv[1],
        "GATEWAY_AMQP_URL": os.environ["BENCH_AMQP_URL"],
        "JWKS_URL": f"{service}/.well-known/jwks.json",
        "GATEWAY_ADDRESS_CALLS_PER_MINUTE": UNLIMITED,
        "GATEWAY_ACCOUNT_CALLS_PER_MINUTE": UNLIMITED,
    }
    api()
