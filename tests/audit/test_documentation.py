"""docs/audit-events.md lists every action that the code records, and none that it does not."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from shared import queue_desk
from shared.topology import CONSUMERS

ROOT = Path(__file__).parents[2]
ACTION = re.compile(r"[a-z_]+(\.[a-z_]+){1,2}")
# Functions that get the name of an act from their callers, where it is read.
WRAPPERS = {"note", "record", "_record", "record_reading", "on_invitation"}


def documented() -> set[str]:
    text = (ROOT / "docs" / "audit-events.md").read_text()
    return {action for action in re.findall(r"^\| `([a-z_.]+)` \|", text, re.MULTILINE) if "." in action}


def recorded() -> set[str]:
    """Every action in a call that records one; an f-string ends in `*`."""
    found: set[str] = set()
    for service in ("auth", "referrals", "invitations", "audit"):
        for path in (ROOT / "services" / service).rglob("*.py"):
            tree = ast.parse(path.read_text())
            constants = _constants(tree)
            found |= {word for word in constants.values() if word.startswith(f"{service}.") and ACTION.fullmatch(word)}
            for call in ast.walk(tree):
                if isinstance(call, ast.Call):
                    found |= set(_actions(call, constants))
    # What all services have from shared, each under its own name.
    return found | {f"{service}.{act}" for service in CONSUMERS for act in queue_desk.ACTS}


def _constants(tree: ast.Module) -> dict[str, str]:
    return {
        target.id: node.value.value
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _actions(call: ast.Call, constants: dict[str, str]) -> Iterator[str]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name == "note":  # auth's own short form, which puts its name in front
        yield from (f"auth.{word}" for word in _words(call.args[1], constants))
    if name in WRAPPERS - {"note"} or name.endswith("Audit"):
        spoken = [*call.args, *(each.value for each in call.keywords if each.arg == "action")]
        words = {word for each in spoken for word in _words(each, constants)}
        yield from (word for word in words if ACTION.fullmatch(word.rstrip("*") + "x" * word.endswith("*")))


def _words(node: ast.expr, constants: dict[str, str]) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id in constants:
        yield constants[node.id]
    elif isinstance(node, ast.IfExp):
        yield from _words(node.body, constants)
        yield from _words(node.orelse, constants)
    elif isinstance(node, ast.JoinedStr):
        yield from (f"{word}*" for word in _words(node.values[0], constants))


def test_every_recorded_action_is_documented() -> None:
    known = documented()
    missing = {
        action
        for action in recorded()
        if action not in known and not (action.endswith("*") and any(each.startswith(action[:-1]) for each in known))
    }
    assert missing == set()


def test_every_documented_action_is_recorded_somewhere() -> None:
    found = recorded()
    beginnings = tuple(action[:-1] for action in found if action.endswith("*"))
    unknown = {action for action in documented() if action not in found and not action.startswith(beginnings)}
    assert unknown == set()


def silent() -> Iterator[str]:
    """Every place that records an act under a name that `recorded` can't read: neither there nor where it is called."""
    for service in ("auth", "referrals", "invitations", "audit"):
        for path in sorted((ROOT / "services" / service).rglob("*.py")):
            tree = ast.parse(path.read_text())
            constants = _constants(tree)
            for function in ast.walk(tree):
                if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                    for call in _records(function):
                        named = [each.value for each in call.keywords if each.arg == "action"]
                        if function.name not in WRAPPERS and not [
                            word for each in named for word in _words(each, constants)
                        ]:
                            yield f"{path.relative_to(ROOT)}:{call.lineno}"


def _records(function: ast.AST) -> Iterator[ast.Call]:
    for call in ast.walk(function):
        if isinstance(call, ast.Call):
            called = ast.unparse(call.func)
            if called == "audit.record" or re.fullmatch(r"(Auth|Referrals|Invitations|Audit)Audit", called):
                yield call


def test_no_act_is_recorded_under_a_name_that_this_test_does_not_see() -> None:
    assert list(silent()) == []


def test_the_code_is_really_read() -> None:
    assert {"auth.sign_in", "invitations.bulk.sent_on_behalf", "partner_center.sync.*", "audit.log.read"} <= recorded()
