"""Step a: an admin signs in, and nobody gets in without a genuine token."""

from __future__ import annotations

import warnings

from joserfc import jwt
from joserfc.errors import SecurityWarning
from joserfc.jwk import OKPKey
from joserfc.util import json_b64decode

from local.accounts import ADMIN_ID
from local.client import Client
from local.tour.guide import OK, Guide

MINE = "/api/v1/auth/me"


def sign_in(guide: Guide) -> None:
    """Sign in as admin 166; try the same call without a token and with a forged one."""
    account = guide.stack["accounts"]["admin"]
    body = {"email": account["email"], "password": account["password"]}
    answer = guide.call(guide.visitor(), "POST", "/api/v1/auth/login", json=body)
    guide.check("signed in", answer.status_code, OK)
    guide.check("the account's id", answer.json()["user"]["id"], ADMIN_ID)
    guide.check("its roles", answer.json()["user"]["roles"], ["Admin"])
    guide.remember("sign-in", answer)

    token = answer.json()["access_token"]
    admin = guide.clients["admin"] = Client(guide.stack["gateway_url"], token)
    guide.check("the call with the token", guide.call(admin, "GET", MINE).status_code, OK)

    refused = guide.call(guide.visitor(), "GET", MINE)
    guide.check("the same call without a token", refused.status_code, 401)
    guide.check("its media type", refused.headers["content-type"], "application/problem+json")

    forger = Client(guide.stack["gateway_url"], forge(token))
    with forger:
        refused = guide.call(forger, "GET", MINE)
    guide.check("the same call with the same claims, signed by another key", refused.status_code, 401)
    guide.check_that(
        "the refusal names the call's request id", holds=refused.json()["request_id"] == refused.headers["x-request-id"]
    )


def forge(token: str) -> str:
    """Sign the claims of a genuine token with a key of our own, under the genuine key's name."""
    header, claims, _ = token.split(".")
    key = OKPKey.generate_key("Ed25519")
    with warnings.catch_warnings():
        # The genuine token names its algorithm so as well (shared/identity.py says why).
        warnings.simplefilter("ignore", SecurityWarning)
        return jwt.encode(json_b64decode(header.encode()), json_b64decode(claims.encode()), key, algorithms=["EdDSA"])
