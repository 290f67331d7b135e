"""Says what is going on while a step takes its time: a counting line on a terminal, plain lines in a pipe."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

QUIET_SECONDS = 15  # in a pipe, one more line after this long, so that nobody takes a slow step for a hanging one
FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def say(message: str) -> None:
    """Print one line at once, also when the output goes to a pipe."""
    sys.stdout.write(f"{message}\n")
    sys.stdout.flush()


@contextmanager
def step(title: str) -> Iterator[Callable[[str], None]]:
    """Show that a step runs, for how long, and how it ended; what is called with a text shows how far it is."""
    started, finished, notes = time.monotonic(), threading.Event(), [""]
    on_terminal = sys.stdout.isatty()
    if not on_terminal:
        say(f"… {title}")

    def line() -> str:
        return f"{title}{notes[0]} ({time.monotonic() - started:.0f} s)"

    def note(text: str) -> None:
        notes[0] = f": {text}"

    teller = threading.Thread(target=_count if on_terminal else _remind, args=(line, finished), daemon=True)
    teller.start()
    mark = "✗"
    try:
        yield note
        mark = "✓"
    finally:
        finished.set()
        teller.join()
        say(f"{mark} {title} ({time.monotonic() - started:.1f} s)")


def _count(line: Callable[[], str], finished: threading.Event) -> None:
    turn = 0
    while not finished.wait(0.1):
        sys.stdout.write(f"\r\x1b[2K{FRAMES[turn % len(FRAMES)]} {line()}")
        sys.stdout.flush()
        turn += 1
    sys.stdout.write("\r\x1b[2K")  # the closing line takes the place of the counting one


def _remind(line: Callable[[], str], finished: threading.Event) -> None:
    while not finished.wait(QUIET_SECONDS):
        say(f"… {line()}")
