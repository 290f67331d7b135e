"""What the tour looks at besides the gateway: logs, the database, the life of each role; wherever the system runs."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from local.sql import query
from local.stack_file import processes


class System(Protocol):
    """A running system, seen from the machine that runs it."""

    def log_of(self, role: str) -> str:
        """Give everything that a role has said."""

    def sql(self, service: str, statement: str) -> Any:
        """Ask the database one figure, with a service's rights and in its schema."""

    def life_of(self, role: str) -> str | None:
        """Name what plays a role now, so that its successor has another name; None if nothing does."""

    def kill(self, role: str) -> None:
        """End a role as a crash would, with SIGKILL."""


@dataclass(frozen=True)
class LocalSystem:
    """The system of `make up` and `make demo`: processes of this machine."""

    stack: dict[str, Any]
    run_dir: Path

    def log_of(self, role: str) -> str:
        """Give everything that a role has said."""
        said = Path(self.stack["logs"][role]).read_text(errors="replace")
        return said[: said.rfind("\n") + 1]  # a line that is being written is not yet said

    def sql(self, service: str, statement: str) -> Any:
        """Ask the database one figure, as the service's own role, whose search path is its schema."""
        return query(self.stack["database_urls"][service], statement)[0][0]

    def life_of(self, role: str) -> str | None:
        """Name the process that plays a role now."""
        process = processes(self.run_dir)[role]
        return f"process {process.pid}" if process.is_alive() else None

    def kill(self, role: str) -> None:
        """End a role with kill -9."""
        processes(self.run_dir)[role].send(signal.SIGKILL)
