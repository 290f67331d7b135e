"""Steps b and c: an admin invites farmers on a sponsor's behalf, by the right call and by the known wrong one."""

from __future__ import annotations

from typing import Any, Final

from local.accounts import SPONSOR_ID
from local.tour.guide import OK, Guide
from local.tour.spreadsheets import CONTENT_TYPE, make_list, valid_rows

ON_BEHALF: Final = "/api/Sponsorship/admin/farmer/invitations/bulk"
OWN: Final = "/api/Sponsorship/farmer/invitations/bulk"
WANTED: Final = 100
RECIPIENTS: Final[list[dict[str, Any]]] = [
    {
        "phone": "05421396386",
        "farmerName": "Ahmet Yılmaz",
        "email": "ahmet@example.com",
        "codeCount": 5,
        "packageTier": "M",
        "notes": "Bölge 1 - Antalya",
    },
    {"phone": "+905551234567", "farmerName": "Ayşe Demir", "codeCount": 3, "packageTier": "M"},
    {"phone": "05339876543", "farmerName": "Mehmet Kaya", "codeCount": WANTED, "packageTier": "M"},
]
SUCCEEDED: Final = {
    "phone", "farmerName", "codeCount", "packageTier", "success",
    "invitationId", "invitationToken", "invitationLink", "deliveryStatus",
}  # fmt: skip
FAILED: Final = {"phone", "farmerName", "codeCount", "packageTier", "success", "errorMessage", "deliveryStatus"}


def invite_on_behalf(guide: Guide) -> None:
    """Invite three farmers for sponsor 6, of whom one asks for more M codes than there are."""
    admin = guide.caller("admin")
    available = guide.stock("available")["M"]
    messages = guide.provider("count")["messages"]
    body = {
        "sponsorId": SPONSOR_ID,
        "channel": "SMS",
        "customMessage": "Merhaba {farmerName}, {sponsorName} size {codeCount} adet paket hediye etti: {deepLink}",
        "recipients": RECIPIENTS,
    }
    answer = guide.call(admin, "POST", ON_BEHALF, json=body)
    guide.remember("on behalf of", answer)
    guide.check("status", answer.status_code, OK)
    content = answer.json()
    guide.check("message", content["message"], "📱 2 davet başarıyla gönderildi via SMS")
    guide.results["invitations"] = [result["invitationId"] for result in content["data"]["results"][:2]]
    _check_results(guide, content, left=available - 8)

    sent = guide.provider("messages", after=messages)
    guide.check(
        "messages at the provider", sorted(m["phone"] for m in sent["messages"]), ["+905421396386", "+905551234567"]
    )
    links = [result["invitationLink"] for result in content["data"]["results"][:2]]
    texts = [message["text"] for message in sent["messages"]]
    guide.check_that(
        "each message carries its own link", holds=all(any(x in t for t in texts) for x in links), instead=texts
    )
    guide.check("M codes that are left", guide.stock("available")["M"], available - 8)


def _check_results(guide: Guide, content: dict[str, Any], *, left: int) -> None:
    guide.check("fields of the answer", list(content), ["success", "message", "data"])
    data = content["data"]
    guide.check("fields of the data", list(data), ["totalRequested", "successCount", "failedCount", "results"])
    counts = {name: data[name] for name in ("totalRequested", "successCount", "failedCount")}
    guide.check("counts", counts, {"totalRequested": 3, "successCount": 2, "failedCount": 1})
    results = data["results"]
    guide.check("results in the order of the input", [r["phone"] for r in results], [r["phone"] for r in RECIPIENTS])
    guide.check("delivery", [r["deliveryStatus"] for r in results], ["Sent", "Sent", "Failed - Insufficient Codes"])
    guide.check("fields of a success", sorted(results[0]), sorted(SUCCEEDED))
    guide.check("fields of a failure", sorted(results[2]), sorted(FAILED))
    reason = f"Yetersiz kod (M tier). Mevcut: {left}, İstenen: {WANTED}"
    guide.check("why the third farmer was not invited", results[2]["errorMessage"], reason)


def call_wrongly(guide: Guide) -> None:
    """Use the sponsor's own door with ?onBehalfOfSponsorId=6, and be pointed to the right one."""
    messages, jobs = guide.provider("count")["messages"], guide.sql("invitations", "SELECT count(*) FROM jobs")
    file = {"excelFile": ("davetler.xlsx", make_list(valid_rows(3, first=9_000)), CONTENT_TYPE)}
    answer = guide.call(guide.caller("admin"), "POST", f"{OWN}?onBehalfOfSponsorId={SPONSOR_ID}", files=file)
    guide.check("status", answer.status_code, 400)
    guide.check("code", answer.json()["code"], "ON_BEHALF_OF_NOT_SUPPORTED")
    guide.check_that("the answer names the right call", holds=f"POST {ON_BEHALF}" in answer.json()["detail"])
    guide.check("nothing was sent", guide.provider("count")["messages"], messages)
    guide.check("no job was made", guide.sql("invitations", "SELECT count(*) FROM jobs"), jobs)
