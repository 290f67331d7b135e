"""Step h: a worker is killed in the middle of its work."""

from __future__ import annotations

from typing import Any, Final

from local.environment import STORING
from local.tour.guide import Guide
from local.tour.spreadsheets import valid_rows
from local.tour.uploading import Before, accept_upload, check_effects, follow

ROLE: Final = "invitations-worker"
ROWS: Final = 1_000
WAITING: Final = "SELECT count(*) FROM outbox"
MIDDLE: Final = range(10, 91)  # wide, so that a busy machine looks at least once while it lasts


def kill_worker(guide: Guide) -> None:
    """Kill a worker in the middle of a second upload, and count that nothing is lost and nothing doubled."""
    before = Before.look(guide)
    job = accept_upload(guide, valid_rows(ROWS, first=2_000_000), name="second upload")

    def in_the_middle() -> dict[str, Any] | None:
        data: dict[str, Any] = guide.call(guide.caller("sponsor"), "GET", job, quietly=True).json()["data"]
        return data if data["percent"] in MIDDLE else None

    data = guide.wait_for("the middle of the upload", in_the_middle)
    victim = guide.system.life_of(ROLE)
    guide.system.kill(ROLE)
    guide.teller.saw(f"kill -9 {victim} ({ROLE}) at {data['percent']} %, {data['processedCount']} of {ROWS}")
    guide.wait_for("the end of the worker", lambda: guide.system.life_of(ROLE) != victim)

    def successor() -> str | None:
        now = guide.system.life_of(ROLE)
        return now if now != victim else None

    guide.teller.saw(f"{ROLE} runs again as {guide.wait_for('the worker that follows', successor)}")
    follow(guide, job)
    final = guide.call(guide.caller("sponsor"), "GET", job).json()["data"]
    guide.check("how the job ended", [final["status"], final["successCount"]], ["Completed", ROWS])
    check_effects(guide, before, ROWS)
    guide.wait_for("empty outboxes", lambda: not any(guide.sql(service, WAITING) for service in STORING))
    guide.teller.checked("every outbox is empty: each event has reached the broker")
