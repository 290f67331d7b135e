"""The audit worker with a bullet in it: `python -m tests.audit.killed_worker STEP` dies of SIGKILL right after STEP."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Any, Final

from services.audit import store
from services.audit.__main__ import app
from services.audit.checkpoint_directory import CheckpointDirectory
from services.audit.domain.checkpoints import Checkpoint
from shared.bus.consumer import _Session

_STORE_STEPS: Final = (
    "lock_head", "list_seen", "insert_records", "insert_personal_keys", "save_head", "insert_checkpoint",
)  # fmt: skip
STEPS: Final = (*_STORE_STEPS, "commit", "append")


_append = CheckpointDirectory.append


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(step: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def run(*args: Any, **kwargs: Any) -> None:
        await step(*args, **kwargs)
        _die()

    return run


def _deadly_append(self: CheckpointDirectory, checkpoints: list[tuple[Checkpoint, str]]) -> None:
    """Die with half a note on the disk."""
    ((checkpoint, note),) = checkpoints
    _append(self, [(checkpoint, note[: len(note) // 2])])
    _die()


async def _dead_before_the_acknowledgement(*_: Any) -> None:
    _die()


def arm(step: str) -> None:
    """Make this process die right after the step."""
    if step == "commit":
        _Session._acknowledge = _dead_before_the_acknowledgement  # type: ignore[method-assign, assignment]
    elif step == "append":
        CheckpointDirectory.append = _deadly_append  # type: ignore[method-assign, assignment]
    else:
        setattr(store, step, _deadly(getattr(store, step)))


if __name__ == "__main__":
    arm(sys.argv.pop(1))
    sys.argv.append("worker")
    app()
