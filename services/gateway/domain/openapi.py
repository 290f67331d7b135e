"""One description of the whole interface, put together from what each service says of itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from services.gateway.domain.routing import find_route

_METHODS: Final = frozenset({"get", "put", "post", "delete", "patch", "head", "options"})
_REFERENCE: Final = "#/components/"
_SCHEME: Final = "accessToken"


def merge(documents: Mapping[str, Mapping[str, Any]], *, missing: list[str]) -> dict[str, Any]:
    """Merge the services' documents; what two of them call by one name is told apart by the service's name.

    Public operations are those of the routing table; all others need the access token.
    """
    merged: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Partner Hub",
            "version": "1",
            "description": "Accounts, Partner Center referrals, bulk invitations and the audit log behind one address. "
            "Sign in with POST /api/v1/auth/login and send the access token as 'Authorization: Bearer <token>'.",
        },
        "tags": [{"name": service} for service in documents],
        "paths": {},
        "components": {
            "securitySchemes": {_SCHEME: {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
        "security": [{_SCHEME: []}],
    }
    if missing:
        merged["x-missing-services"] = missing
    for service, document in documents.items():
        _add_components(merged["components"], service, document)
        for path, item in document.get("paths", {}).items():
            merged["paths"][path] = _operations(service, path, item)
    return merged


def _add_components(components: dict[str, Any], service: str, document: Mapping[str, Any]) -> None:
    for kind, members in document.get("components", {}).items():
        if kind == "securitySchemes":
            continue  # there is one way to sign in, and the gateway names it
        target = components.setdefault(kind, {})
        for name, member in members.items():
            target[f"{service}.{name}"] = _renamed(member, service)


def _operations(service: str, path: str, item: Mapping[str, Any]) -> dict[str, Any]:
    public = find_route(path.replace("{", "").replace("}", "").encode()).terms.public
    operations: dict[str, Any] = {}
    for name, operation in item.items():
        if name not in _METHODS:
            operations[name] = _renamed(operation, service)
            continue
        renamed = _renamed(operation, service)
        renamed["tags"] = [service]
        renamed.pop("security", None)
        if public:
            renamed["security"] = []
        _add_own_failures(renamed.get("responses", {}))
        if "operationId" in renamed:
            renamed["operationId"] = f"{service}.{renamed['operationId']}"
        operations[name] = renamed
    return operations


def _add_own_failures(responses: dict[str, Any]) -> None:
    """Add what only the gateway answers; it looks as a service's 503 or 413 does."""
    if away := responses.get("503"):
        responses["502"] = {**away, "description": "Bad Gateway"}
        responses["504"] = {**away, "description": "Gateway Timeout"}
    if too_large := responses.get("413"):
        responses["408"] = {**too_large, "description": "Request Timeout"}
        responses["431"] = {**too_large, "description": "Request Header Fields Too Large"}


def _renamed(part: Any, service: str) -> Any:
    """Point every reference to the service's own copy of what it means."""
    if isinstance(part, dict):
        return {
            key: _target(value, service) if key == "$ref" and isinstance(value, str) else _renamed(value, service)
            for key, value in part.items()
        }
    if isinstance(part, list):
        return [_renamed(value, service) for value in part]
    return part


def _target(reference: str, service: str) -> str:
    if not reference.startswith(_REFERENCE):
        return reference
    kind, _, name = reference.removeprefix(_REFERENCE).partition("/")
    return f"{_REFERENCE}{kind}/{service}.{name}"
