"""Shows a step as it happens: what was sent, what came back, what held. Colour on a terminal, plain in a pipe."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, Protocol

import httpx
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

SECRET_NAMES: Final = frozenset(
    {"password", "new_password", "token", "access_token", "refresh_token", "invitationToken"}
)
LINK_TOKEN: Final = re.compile(r"(/ref/[0-9a-f]{4})[0-9a-f]{28}")
PIPE_WIDTH: Final = 120
SHOWN_CHARACTERS, SHOWN_ITEMS, SHOWN_LETTERS = 1_400, 3, 4


class Teller(Protocol):
    """Somebody who hears how the tour goes."""

    def title(self, text: str) -> None:
        """Hear that a step begins."""

    def sent(self, request: httpx.Request, note: str) -> None:
        """Hear what was sent."""

    def received(self, answer: httpx.Response) -> None:
        """Hear what came back."""

    def checked(self, what: str) -> None:
        """Hear what turned out to hold."""

    def failed(self, why: str) -> None:
        """Hear why a step did not hold."""

    def saw(self, what: str) -> None:
        """Hear what was seen in a log, in the database or at the sandbox."""

    def progress(self, title: str) -> Any:
        """Follow something that takes long; gives what is called with the percentage and a note."""


class Printer:
    """Tells it to the person at the keyboard."""

    def __init__(self) -> None:
        self.console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else PIPE_WIDTH)

    def title(self, text: str) -> None:
        """Show that a step begins."""
        self._print(f"\n━━ {text}", "bold cyan")

    def sent(self, request: httpx.Request, note: str) -> None:
        """Show what was sent."""
        self._print(f"  → {request.method} {request.url.raw_path.decode()} {note}".rstrip(), "blue")

    def received(self, answer: httpx.Response) -> None:
        """Show what came back."""
        style = "green" if answer.is_success else "yellow"
        self._print(f"  ← {answer.status_code} {_body(answer)}", style)
        self._print(f"    x-request-id {answer.headers.get('x-request-id', 'none')}", "dim")

    def checked(self, what: str) -> None:
        """Show what turned out to hold."""
        self._print(f"  ✓ {what}", "bold green")

    def failed(self, why: str) -> None:
        """Show why a step did not hold."""
        self._print(f"  ✗ {why}", "bold red")

    def saw(self, what: str) -> None:
        """Show what was seen elsewhere."""
        self._print(f"  · {what}", "dim")

    @contextmanager
    def progress(self, title: str) -> Iterator[Any]:
        """Show a bar on a terminal, and a line now and then in a pipe."""
        if not self.console.is_terminal:
            yield self._line_teller(title)
            return
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:.0f} % {task.fields[note]}"),
        )
        with Progress(*columns, TimeElapsedColumn(), console=self.console, transient=True) as bar:
            task = bar.add_task(title, total=100, note="")
            yield lambda percent, note: bar.update(task, completed=percent, note=note)

    def _line_teller(self, title: str) -> Any:
        told = [-1]

        def tell(percent: int, note: str) -> None:
            if percent // 20 != told[0]:
                told[0] = percent // 20
                self._print(f"  · {title}: {percent} % {note}", "")

        return tell

    def _print(self, text: str, style: str) -> None:
        # As Text, since brackets in JSON are not mark-up.
        self.console.print(Text(text, style=style))


def describe_json(value: Any) -> str:
    """Write JSON as it is shown: secrets hidden, long lists and texts cut."""
    text = json.dumps(_shortened(value), ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _shortened(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item, key) for key, item in value.items()}
    if isinstance(value, list):
        rest = [f"… {len(value) - SHOWN_ITEMS} more"] if len(value) > SHOWN_ITEMS else []
        return [_shortened(item) for item in value[:SHOWN_ITEMS]] + rest
    if isinstance(value, str):
        return f"{value[:SHOWN_LETTERS]}…" if name in SECRET_NAMES else LINK_TOKEN.sub(r"\1…", value)
    return value


def _body(answer: httpx.Response) -> str:
    if "json" in answer.headers.get("content-type", ""):
        return describe_json(answer.json())
    return f"{answer.headers.get('content-type', 'no body')}, {len(answer.content)} bytes"
