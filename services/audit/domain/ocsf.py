"""Records as OCSF 1.8.0 events, for a SIEM; the mapping lives here, producers know nothing of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from services.audit.domain.chain import Record

_VERSION: Final = "1.8.0"
_OTHER: Final = 99


@dataclass(frozen=True, slots=True)
class _Class:
    uid: int
    name: str
    category_uid: int
    category_name: str


_IAM: Final = (3, "Identity & Access Management")
# 3001 is deprecated from 1.9 on, in favour of 3007; 1.8 is the stable version.
_ACCOUNT_CHANGE: Final = _Class(3001, "Account Change", *_IAM)
_AUTHENTICATION: Final = _Class(3002, "Authentication", *_IAM)
_USER_ACCESS: Final = _Class(3005, "User Access Management", *_IAM)
_API_ACTIVITY: Final = _Class(6003, "API Activity", 6, "Application Activity")

# The first beginning that fits an action decides its class and activity.
_MEANINGS: Final = (
    ("auth.sign_in", _AUTHENTICATION, 1),
    ("auth.logout", _AUTHENTICATION, 2),
    ("auth.sessions.", _AUTHENTICATION, 2),
    ("auth.refresh.", _AUTHENTICATION, _OTHER),
    ("auth.grants.", _USER_ACCESS, 1),
    ("auth.password_reset.", _ACCOUNT_CHANGE, 4),
    ("auth.password.", _ACCOUNT_CHANGE, 3),
    ("auth.user.created", _ACCOUNT_CHANGE, 1),
    ("auth.user.disabled", _ACCOUNT_CHANGE, 5),
    ("auth.second_factor.confirmed", _ACCOUNT_CHANGE, 10),
    ("auth.second_factor.removed", _ACCOUNT_CHANGE, 11),
    ("auth.key.", _API_ACTIVITY, _OTHER),
    ("auth.", _ACCOUNT_CHANGE, _OTHER),
    ("audit.log.", _API_ACTIVITY, 2),
    ("audit.event.", _API_ACTIVITY, 2),
    ("", _API_ACTIVITY, _OTHER),
)
_SEVERITIES: Final = {
    "info": (1, "Informational"),
    "notice": (2, "Low"),
    "warning": (3, "Medium"),
    "critical": (5, "Critical"),
}
_STATUSES: Final = {"success": (1, "Success"), "failure": (2, "Failure"), "denied": (2, "Failure")}
_UNKNOWN: Final = (0, "Unknown")
_USER_TYPES: Final = {"user": (1, "User"), "admin": (2, "Admin"), "service": (4, "Service")}


def ocsf_event(record: Record, chain: str) -> dict[str, Any]:
    """Map a record, with its place in the named chain in the shape of the `record_integrity` profile of 1.9."""
    content = record.content()
    _, kind, activity = next(entry for entry in _MEANINGS if content["action"].startswith(entry[0]))
    severity_id, severity = _SEVERITIES.get(content["severity"], _UNKNOWN)
    status_id, status = _STATUSES.get(content["outcome"], _UNKNOWN)
    event: dict[str, Any] = {
        "metadata": _metadata(record, content),
        "time": _milliseconds(content["time"]),
        "class_uid": kind.uid,
        "class_name": kind.name,
        "category_uid": kind.category_uid,
        "category_name": kind.category_name,
        "activity_id": activity,
        # OCSF gives the names of its own activities; what it has no number for, we name.
        "activity_name": content["action"] if activity == _OTHER else None,
        "type_uid": kind.uid * 100 + activity,
        "severity_id": severity_id,
        "severity": severity,
        "status_id": status_id,
        "status": status,
        "status_code": content["outcome"],
        "status_detail": content.get("reason"),
        **_parties(content, kind),
        "unmapped": {"on_behalf_of": content.get("on_behalf_of"), "details": content["details"]},
        "attestation": {
            "fingerprint": _fingerprint(record.hash),
            "prev_event": {"fingerprint": _fingerprint(record.prev_hash)} if record.seq > 1 else None,
            "chain_uid": chain,
        },
    }
    return {name: _without_nothing(value) for name, value in event.items() if value is not None}


def _metadata(record: Record, content: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": _VERSION,
        "product": {"name": "Partner Hub", "vendor_name": "Partner Hub", "feature": {"name": content["service"]}},
        "uid": content["id"],
        "sequence": record.seq,
        "correlation_uid": content.get("request_id"),
        "event_code": content["action"],
        "logged_time": _milliseconds(content["recordedtime"]),
    }


def _parties(content: Mapping[str, Any], kind: _Class) -> dict[str, Any]:
    """Name who acted, on whom or what, and at which door; addresses stay sealed."""
    actor, target = _user(content["actor"]), content.get("target")
    common = {"actor": {"user": actor}, "src_endpoint": {"svc_name": "gateway"}}
    if kind is _API_ACTIVITY:
        request = {"uid": content.get("request_id")}
        resource = {"type": target["kind"], "uid": target["id"]} if target else None
        api = {"operation": content["action"], "request": request, "service": {"name": content["service"]}}
        return {**common, "api": api, "resources": [resource] if resource else None}
    somebody = {"uid": target["id"]} if target and target["kind"] == "user" else actor
    parties = {**common, "user": somebody, "service": {"name": content["service"]}}
    return {**parties, "privileges": ["on_behalf_of"]} if kind is _USER_ACCESS else parties


def _user(actor: Mapping[str, Any]) -> dict[str, Any]:
    """Name an actor; who has no account here is named by kind, because OCSF wants one of name and id."""
    kind, number = str(actor.get("kind")), actor.get("id")
    who = {"name": kind} if number is None else {"uid": str(number)}
    type_id, caption = _USER_TYPES.get(kind, (_OTHER, kind))
    return {**who, "type": caption, "type_id": type_id}


def _without_nothing(value: Any) -> Any:
    """Leave out what an event does not have: OCSF knows no null."""
    if isinstance(value, dict):
        return {name: _without_nothing(item) for name, item in value.items() if item is not None}
    return [_without_nothing(item) for item in value] if isinstance(value, list) else value


def _fingerprint(digest: bytes) -> dict[str, Any]:
    return {"algorithm_id": 3, "algorithm": "SHA-256", "value": digest.hex()}


def _milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).timestamp() * 1000)
