"""Where transactions are opened, and what may not happen while one is open."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from tests.architecture.tree import modules_of_services, parsed

# One client per outside system: what these do may take seconds, and a transaction would wait with its locks.
OUTSIDE = ("microsoft", "partner_center", "verimor", "twilio", "mailer", "proxy")
# The one place where a transaction waits for HTTP, on purpose: two replicas that renew a one-time refresh token at once
# lose it, so a row lock is held while Microsoft is asked (spec/referrals.md).
ON_PURPOSE = {"access.microsoft.renew"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def test_no_dependency_hands_out_a_connection() -> None:
    """FastAPI ends a `yield` dependency after it has sent the response: the client would see 201 before the commit."""
    trees = dict(parsed("services", "shared"))
    depended_on = {name for tree in trees.values() for name in _dependencies(tree)}
    handing_out = [f"{path}: {name}" for path, name in _lenders(trees) if name in depended_on]

    assert depended_on
    assert handing_out == []


def test_no_outside_system_is_called_while_a_transaction_is_open() -> None:
    calls = {
        ast.unparse(node.value.func): path
        for path, tree in parsed("services")
        for block in ast.walk(tree)
        if isinstance(block, ast.AsyncWith) and _opens_a_transaction(block)
        for statement in block.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Await) and isinstance(node.value, ast.Call)
        if set(_words(node.value.func)) & set(OUTSIDE)
    }

    assert set(calls) == ON_PURPOSE, calls


def test_a_command_that_is_given_a_connection_is_given_no_outside_system() -> None:
    clients = _names_of_outside_classes()
    both = [
        f"{path}: {function.name}"
        for path, tree in parsed("services")
        if "commands" in path.with_suffix("").parts
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS) and _takes(function, {"Connection"}) and _takes(function, clients)
    ]

    assert clients >= {"PartnerCenter", "Verimor", "Twilio"}
    assert both == []


def _dependencies(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Depends" and node.args:
            yield ast.unparse(node.args[0])


def _lenders(trees: dict[Path, ast.Module]) -> Iterator[tuple[Path, str]]:
    """Find the functions that yield while they hold a connection."""
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if isinstance(node, FUNCTIONS) and any(
                isinstance(block, ast.AsyncWith)
                and (_opens_a_transaction(block) or ".connection(" in ast.unparse(block.items[0]))
                and any(isinstance(part, ast.Yield) for part in ast.walk(block))
                for block in ast.walk(node)
            ):
                yield path, node.name


def _opens_a_transaction(block: ast.AsyncWith) -> bool:
    return any(".transaction(" in ast.unparse(item.context_expr) for item in block.items)


def _words(function: ast.expr) -> Iterator[str]:
    """Split `context.twilio.send` into its names."""
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Name):
            yield node.id


def _names_of_outside_classes() -> set[str]:
    return {
        name
        for module in modules_of_services()
        if module.__name__.split(".")[-1] in OUTSIDE
        for name, value in inspect.getmembers(module, inspect.isclass)
        if value.__module__ == module.__name__
        and any(inspect.iscoroutinefunction(each) for each in vars(value).values())
    }


def _takes(function: ast.FunctionDef | ast.AsyncFunctionDef, types: set[str]) -> bool:
    arguments = [*function.args.args, *function.args.kwonlyargs]
    return any(types & set(_words(argument.annotation)) for argument in arguments if argument.annotation is not None)
