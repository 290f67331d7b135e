"""Names say what a thing is, the same way everywhere."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from shared.errors import Failure
from shared.settings import ServiceSettings
from tests.architecture.tree import ROOT, SERVICES, modules_of_services, parsed, python_files

# Each of these can mean anything (design.md).
SAYING_NOTHING = {"utils", "helpers", "common", "core", "base", "manager", "service", "handlers"}
FOLDERS = ("services", "shared", "sandbox", "local", "tests")
UPPER_SNAKE = re.compile(r"[A-Z][A-Z0-9]*(_[A-Z0-9]+)*")
MIGRATION = re.compile(
    r"(?P<number>\d{4})_(create|add|drop|rename|change|forbid|allow|move|fill|sign|keep)_[a-z0-9_]+\.sql"
)
UNITS = ("seconds", "days", "bytes", "kib", "per_second", "per_minute", "per_service")
# What is counted needs no unit.
COUNTED = {"port", "size", "attempts", "lanes", "passes", "threads", "failures", "length", "limit", "burst", "count"}
COUNTED |= {"at_once", "ahead"}


def kinds_of_failure() -> list[type[Failure]]:
    modules_of_services()
    found: list[type[Failure]] = [Failure]
    for kind in found:
        found.extend(kind.__subclasses__())
    return list(dict.fromkeys(kinds for kinds in found if not kinds.__module__.startswith("tests.")))


def settings_classes() -> list[type[ServiceSettings]]:
    modules_of_services()
    classes = [ServiceSettings]
    for each in classes:
        classes.extend(each.__subclasses__())
    return classes


def test_an_error_code_belongs_to_one_failure() -> None:
    codes = Counter(vars(kind)["code"] for kind in kinds_of_failure() if "code" in vars(kind))

    assert [code for code, times in codes.items() if times > 1] == []


def test_every_concrete_failure_has_a_code_of_its_own() -> None:
    without = [
        kind.__qualname__ for kind in kinds_of_failure() if not kind.__subclasses__() and "code" not in vars(kind)
    ]

    assert without == []


def test_error_codes_are_upper_snake() -> None:
    codes = {kind.code for kind in kinds_of_failure()} | set(codes_given_where_they_are_raised())

    assert [code for code in sorted(codes) if not UPPER_SNAKE.fullmatch(code)] == []


def codes_given_where_they_are_raised() -> Iterator[str]:
    for _, tree in parsed("services", "shared"):
        for node in ast.walk(tree):
            if isinstance(node, ast.keyword) and node.arg == "code" and isinstance(node.value, ast.Constant):
                yield str(node.value.value)


@pytest.mark.parametrize("folder", ["shared", *(f"services/{service}" for service in SERVICES if service != "gateway")])
def test_migrations_are_numbered_without_a_hole_and_say_what_they_do(folder: str) -> None:
    names = sorted(path.name for path in (ROOT / folder / "migrations").iterdir())
    matches = [MIGRATION.fullmatch(name) for name in names]

    assert all(matches), names
    assert [match["number"] for match in matches if match] == [f"{n:04}" for n in range(1, len(names) + 1)]
    assert names


def test_no_module_has_a_name_that_can_mean_anything() -> None:
    saying_nothing = [
        path.relative_to(ROOT)
        for path in python_files(*FOLDERS)
        if SAYING_NOTHING & {part.lstrip("_") for part in path.relative_to(ROOT).with_suffix("").parts}
    ]

    assert saying_nothing == []


def test_a_setting_that_is_a_number_says_its_unit_or_what_is_counted() -> None:
    vague = [
        f"{settings.__name__}.{name}"
        for settings in settings_classes()
        for name, field in settings.model_fields.items()
        if field.annotation in {int, float} and not name.endswith((*UNITS, *COUNTED))
    ]

    assert vague == []


def test_the_name_of_a_test_is_a_sentence() -> None:
    short = [
        f"{path}: {node.name}"
        for path, tree in parsed("tests")
        for node in ast.walk(tree)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and node.name.startswith("test_")
        and node.name.count("_") < 3
    ]

    assert short == []


def test_a_handler_or_command_or_route_says_in_its_docstring_what_it_does() -> None:
    silent = [
        f"{path}: {node.name}"
        for path, tree in parsed("services")
        if {"commands", "consumers", "routes"} & set(path.with_suffix("").parts)
        for node in tree.body
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_says_what_it_owns_publishes_and_consumes(service: str) -> None:
    text = ast.get_docstring(ast.parse((ROOT / "services" / service / "__init__.py").read_text())) or ""

    assert {word for word in ("owns", "publishes", "consumes") if word not in text.lower()} == set()
