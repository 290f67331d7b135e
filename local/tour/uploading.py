"""Step d: a sponsor uploads a list of farmers and watches it being worked off."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

import httpx

from local.tour.guide import OK, Guide
from local.tour.inviting import OWN
from local.tour.spreadsheets import CONTENT_TYPE, faulty_rows, make_list, read_list, valid_rows

ROWS, FAULTY = 1_000, 25
VALID: Final = ROWS - FAULTY
ENDED: Final = {"Completed", "CompletedWithErrors", "Cancelled", "Failed"}
JOB_SECONDS: Final = 180
FEWEST_LOOKS: Final = 3  # begun, under way, done


@dataclass(frozen=True)
class Before:
    """How things stood before an upload; afterwards only the difference counts."""

    messages: int
    reserved: int

    @classmethod
    def look(cls, guide: Guide) -> Before:
        """See how things stand now."""
        return cls(guide.provider("count")["messages"], sum(guide.stock("reserved").values()))


def upload_list(guide: Guide) -> None:
    """Upload an Excel file of 1,000 rows, 25 of them faulty, and follow its progress to the result file."""
    before = Before.look(guide)
    good = valid_rows(VALID, first=1_000_000)
    job = accept_upload(guide, good[:900] + faulty_rows(good) + good[900:], name="upload")
    seen = follow(guide, job)
    guide.check_that(
        "progress was seen while it ran, and it only grew",
        holds=len(set(seen)) >= FEWEST_LOOKS and seen == sorted(seen),
    )

    final = guide.call(guide.caller("sponsor"), "GET", job).json()["data"]
    guide.check("how it ended", final["status"], "CompletedWithErrors")
    counts = {name: final[name] for name in ("totalDealers", "successCount", "failedCount", "percent")}
    guide.check("counts", counts, {"totalDealers": ROWS, "successCount": VALID, "failedCount": FAULTY, "percent": 100})
    check_effects(guide, before, VALID)
    _check_results(guide, job)


def accept_upload(guide: Guide, rows: list[Any], *, name: str) -> str:
    """Upload rows as the sponsor; gives the status URL."""
    file = {"excelFile": ("çiftçiler.xlsx", make_list(rows), CONTENT_TYPE)}
    answer = guide.call(guide.caller("sponsor"), "POST", OWN, files=file, data={"channel": "SMS"})
    guide.remember(name, answer)
    guide.check("status", answer.status_code, httpx.codes.ACCEPTED)
    content = answer.json()
    guide.check("message", content["message"], f"{len(rows)} davet başarıyla sıraya alındı")
    guide.check("rows and state", [content["data"]["totalDealers"], content["data"]["status"]], [len(rows), "Queued"])
    where = content["data"]["statusCheckUrl"]
    guide.check(
        "where to look, in body and header",
        [where, answer.headers["location"]],
        [f"{OWN}/{content['data']['jobId']}"] * 2,
    )
    return str(where)


def follow(guide: Guide, job: str) -> list[int]:
    """Watch a job to its end; gives the percentages that were seen."""
    seen: list[int] = []

    with guide.teller.progress(f"GET {job}") as tell:

        def ended() -> bool:
            data = guide.call(guide.caller("sponsor"), "GET", job, quietly=True).json()["data"]
            seen.append(data["percent"])
            tell(data["percent"], f"{data['processedCount']} of {data['totalDealers']}, {data['rowsPerSecond']} rows/s")
            return data["status"] in ENDED

        guide.wait_for(f"the end of {job}", ended, JOB_SECONDS)
    return seen


def check_effects(guide: Guide, before: Before, wanted: int) -> None:
    """Count what really happened: at the provider and in the stock of codes."""
    sent = guide.provider("messages", after=before.messages)["messages"]
    phones = Counter(message["phone"] for message in sent)
    guide.check("messages at the provider", len(sent), wanted)
    guide.check("phones that got them, once each", [len(phones), max(phones.values())], [wanted, 1])
    guide.check("codes that are reserved", sum(guide.stock("reserved").values()) - before.reserved, wanted)


def _check_results(guide: Guide, job: str) -> None:
    answer = guide.call(guide.caller("sponsor"), "GET", f"{job}/results")
    guide.check("result file", [answer.status_code, answer.headers["content-type"]], [OK, CONTENT_TYPE])
    rows = read_list(answer.content)
    statuses = Counter(
        next(str(value) for value in row.values() if str(value).startswith(("Sent", "Failed"))) for row in rows
    )
    guide.check("its rows", len(rows), ROWS)
    guide.check("its rows that were sent", statuses["Sent"], VALID)
    guide.check("the others, each with its reason", {k: v for k, v in sorted(statuses.items()) if k != "Sent"}, {
        "Failed - Duplicate": 5, "Failed - Invalid Phone": 15, "Failed - Invalid Tier": 5,
    })  # fmt: skip
