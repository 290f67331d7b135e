"""The demo's exit code tells the truth, and a stranger at the keyboard sees no secret."""

from __future__ import annotations

import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from local import __main__ as commands
from local import stack
from local.errors import LocalError
from local.stack_file import describe, stack_file
from local.tour import journey
from local.tour.guide import Guide, NotAsPromised
from local.tour.journey import Step
from local.tour.system import LocalSystem
from local.tour.telling import Printer, describe_json


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A command treats SIGTERM as Ctrl-C; the tests after these do not."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, before)


def holds(guide: Guide) -> None:
    guide.check("one and one", 1 + 1, 2)


def does_not_hold(guide: Guide) -> None:
    guide.check("one and one", 1 + 1, 3)


def run_demo(monkeypatch: pytest.MonkeyPatch, folder: Path, *steps: Any) -> tuple[int, list[str]]:
    stopped: list[str] = []
    monkeypatch.setattr(commands, "RUN", folder)
    monkeypatch.setattr(stack, "up", lambda _: {"gateway_url": "http://127.0.0.1:1"})
    monkeypatch.setattr(stack, "down", lambda run_dir: stopped.append(run_dir.name))
    monkeypatch.setattr(
        journey, "STEPS", tuple(Step(name, f"step {name}", take) for name, take in zip("ab", steps, strict=False))
    )
    with pytest.raises(SystemExit) as ending:
        commands.main(["demo"])
    return int(ending.value.code or 0), stopped


def test_the_demo_succeeds_only_if_every_step_held(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert run_demo(monkeypatch, tmp_path, holds, holds) == (0, ["demo"])


def test_one_step_that_does_not_hold_fails_the_demo_and_the_others_are_still_tried(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_demo(monkeypatch, tmp_path, does_not_hold, holds) == (1, ["demo"])
    said = capsys.readouterr().out
    assert "✗ NotAsPromised: one and one: expected 3, and it is 2" in said
    assert "✓ one and one: 2" in said


def test_what_was_started_is_stopped_when_the_start_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stopped: list[Path] = []

    def break_down(_: Path) -> dict[str, Any]:
        raise LocalError("no disk left")

    monkeypatch.setattr(commands, "RUN", tmp_path)
    monkeypatch.setattr(stack, "up", break_down)
    monkeypatch.setattr(stack, "down", stopped.append)
    with pytest.raises(SystemExit) as ending:
        commands.main(["demo"])
    assert ending.value.code == 1
    assert stopped == [tmp_path / "demo"]


@pytest.mark.parametrize("command", ["up", "demo"])
def test_the_same_command_again_leaves_alone_what_the_first_one_is_starting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    starts: list[Path] = []
    stops_before_the_end: list[Path] = []
    stopped: list[Path] = []

    def start_slowly(run_dir: Path) -> dict[str, Any]:
        starts.append(run_dir)
        if len(starts) == 1:
            with pytest.raises(SystemExit) as ending:
                commands.main([command])
            assert ending.value.code == 1
            stops_before_the_end.extend(stopped)
        raise LocalError("enough")

    monkeypatch.setattr(commands, "RUN", tmp_path)
    monkeypatch.setattr(stack, "up", start_slowly)
    monkeypatch.setattr(stack, "down", stopped.append)
    with pytest.raises(SystemExit):
        commands.main([command])
    assert (len(starts), stops_before_the_end, stopped) == (1, [], [tmp_path / command])
    assert "at work already" in capsys.readouterr().out


def test_only_while_it_stops_what_it_started_a_command_hears_no_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    heard: list[Any] = []
    monkeypatch.setattr(commands, "RUN", tmp_path)
    monkeypatch.setattr(stack, "up", lambda _: {"gateway_url": "http://127.0.0.1:1"})
    monkeypatch.setattr(journey, "STEPS", ())
    monkeypatch.setattr(stack, "down", lambda _: heard.extend(map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))))
    with pytest.raises(SystemExit):
        commands.main(["demo"])
    assert heard == [signal.SIG_IGN] * 2
    # Whoever is started later would otherwise never hear them either: what is ignored is inherited.
    assert signal.SIG_IGN not in map(signal.getsignal, (signal.SIGINT, signal.SIGTERM))


def test_what_is_shown_holds_no_secret() -> None:
    body = {
        "email": "a@example.com",
        "password": "correct horse battery",
        "data": [
            {"invitationToken": "0123456789abcdef0123456789abcdef", "invitationLink": f"http://h/ref/{'ab' * 16}"}
        ],
        "access_token": "eyJhbGciOiJFZERTQSJ9.payload.signature",
    }
    shown = describe_json(body)
    assert "a@example.com" in shown
    assert not any(secret in shown for secret in ("horse", "456789abcdef", "ab" * 3, "payload"))


def test_a_wait_that_is_in_vain_says_what_was_waited_for() -> None:
    guide = Guide({}, LocalSystem({}, Path()), Printer())
    with pytest.raises(NotAsPromised, match=r"after 0 s there is still no sign of this: a miracle"):
        guide.wait_for("a miracle", lambda: None, seconds=0)
    guide.close()


def test_only_its_owner_can_read_the_stack_file(tmp_path: Path) -> None:
    run_dir = tmp_path / "up"
    describe(run_dir, {"gateway_url": "http://127.0.0.1:1"})
    assert stack_file(run_dir) == tmp_path / "stack.json", "that of `make up` is where scripts look for it"
    assert stat.S_IMODE(stack_file(run_dir).stat().st_mode) == 0o600


def test_the_answer_of_a_file_is_shown_by_its_type_and_size(capsys: pytest.CaptureFixture[str]) -> None:
    Printer().received(httpx.Response(200, content=b"PK" * 10, headers={"content-type": "application/zip"}))
    assert "← 200 application/zip, 20 bytes" in capsys.readouterr().out
