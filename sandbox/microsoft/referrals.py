"""A deterministic set of referrals in the shape that the service really sends, every value synthetic."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterator

Item = dict[str, Any]
OrderField = Literal["createdDateTime", "updatedDateTime"]
Position = tuple[str, str]  # (time as 7-digit text, id): where an item stands in an order

_FIRST_UPDATE = datetime(2024, 1, 1, 6, 0, tzinfo=UTC)
_STEP = timedelta(minutes=4, seconds=7)
_COMPANIES = ("Fabrikam", "Northwind", "Adventure Works", "Tailspin", "Wingtip", "Litware", "Proseware", "Gökçe Süt")
_COUNTRIES = ("US", "TR", "DE", "GB", "FR", "NL", "JP")
_SIZES = ("1to9employees", "10to50employees", "51to250employees", "251to1000employees", "", None)
_STATES = (
    ("New", "Pending"),
    ("Active", "Accepted"),
    ("Closed", "Won"),
    ("New", "Received"),
    ("Closed", "Lost"),
    ("Active", "Accepted"),
    ("Closed", "Declined"),
    ("Closed", "Expired"),
)
_CATEGORIES = (  # type, qualification, inviter: marketplace lead, qualified lead, co-sell opportunity
    ("Independent", "Direct", "msft"),
    ("Independent", "SalesQualified", "msft"),
    ("Shared", "SalesQualified", "2a6f0c1e-8f0b-4a53-9f51-0e7d5b0c3b77"),
)


def identifier(index: int) -> str:
    """Make the id of the n-th referral; reversible, so that no item needs to be kept."""
    return str(UUID(int=(0x5EED << 112) | (0x4 << 76) | (0x8 << 60) | index))


def index_of(referral_id: str) -> int:
    """Give back the n that `identifier` was given."""
    return UUID(referral_id).int & 0xFFFFFFFF


def sortable(moment: str) -> str:
    """Write a time of any number of fractional digits as text that sorts like the time."""
    whole, _, fraction = moment.rstrip("Z").partition(".")
    return f"{whole}.{fraction:0<7}"


def generate(index: int) -> Item:
    """Make the n-th referral as it is before anybody changes it."""
    updated = _moment(_FIRST_UPDATE + index * _STEP, index)
    created = _moment(_FIRST_UPDATE + index * _STEP - timedelta(hours=12), index)
    status, substatus = _STATES[index % len(_STATES)]
    kind, qualification, inviter = _CATEGORIES[index % len(_CATEGORIES)]
    company = f"{_COMPANIES[index % len(_COMPANIES)]} {index:06d}"
    referral_id = identifier(index)
    item = {
        "id": referral_id,
        "engagementId": str(UUID(int=UUID(referral_id).int ^ (1 << 100))),
        "name": f"{company} data platform",
        "organizationId": "7d23e5ca-19dc-4eaa-aac8-5e6b559f0d1d",
        "organizationName": "Contoso Company",
        "lastModifiedVia": None,
        "lastRunId": None,
        "externalReferenceId": ("", None, f"CRM-{index:06d}")[index % 3],
        "createdDateTime": created,
        "updatedDateTime": updated,
        "expirationDateTime": None,
        "status": status,
        "substatus": substatus,
        "statusReason": None,
        "qualification": qualification,
        "type": kind,
        "referralSource": None,
        "eTag": f'"{index:08x}-0000-0100-0000-6225cdc90000"',
        "favorite": False,
        "campaignId": None,
        "salesStage": (None, "Qualify", "100")[index % 3],
        "quality": "Unknown",
        "isSpam": False,
        "direction": "Outgoing" if not index % 5 else "Incoming",
        "mpnId": "0000000",
        "referralProgram": None,
        "dealSensitivity": "None",
        "createdVia": None,
        "tags": [],
        "acceptedDateTime": created if status == "Active" else None,
        "closedDateTime": updated if status == "Closed" else None,
        "callToAction": None,
        "registrationStatus": "None",
        "target": [{"type": "SolutionProfile", "id": "SOL-34104-EBB"}],
        "customerProfile": _customer(index, company),
        "consent": {
            "consentToToShareInfoWithOthers": True,
            "consentToContact": True,
            "consentToShareReferralWithMicrosoftSellers": True,
        },
        "details": _details(index),
        "team": [_member("Partner", index, "contoso.example")],
        "inviteContext": {
            "notes": None,
            "assistanceRequestCode": "Unknown",
            "invitedMpnId": None,
            "invitedBy": {
                "organizationId": inviter,
                "organizationName": "Microsoft" if inviter == "msft" else "Litware",
            },
        },
        "links": _links(referral_id),
        "trackingInfo": {
            "microsoftMsxId": None,
            "microsoftUSFedOpportunityId": None,
            "microsoftUSFedLeadId": None,
            "migratedPSCDealId": None,
            "migratedPSCPartnerDealId": None,
        },
        "registrations": [],
    }
    if not index % 4:
        del item["registrations"]  # the key can be absent
    return item


def _customer(index: int, company: str) -> Item:
    return {
        "name": company,
        "size": _SIZES[index % len(_SIZES)],
        "isMatchingComplete": False,
        "address": {
            "addressLine1": f"{index} Example Street",
            "addressLine2": (None, "")[index % 2],
            "city": "İzmir" if index % 2 else "Redmond",
            "state": (None, "WA")[index % 2],
            "postalCode": f"{index % 100_000:05d}",
            "country": _COUNTRIES[index % len(_COUNTRIES)],
            "region": "WA",
        },
        "team": [_member("Customer", index, f"customer-{index:06d}.example")],
        "ids": (
            [{"profileType": "Duns", "id": f"{index:09d}"}, {"profileType": "External", "id": "1-XXXXXX"}],
            {},
            [],
        )[index % 3],
    }


def _details(index: int) -> Item:
    solution = dict.fromkeys(("price", "quantity", "currency", "publisherName", "solutionType", "closingDateTime"))
    return {
        "notes": "synthetic",
        "dealValue": (50_000, 1234.5, None)[index % 3],
        "currency": "USD",
        "closingDateTime": "2025-06-30T00:00:00Z",
        "customerRequestedContact": None,
        "customerAction": None,
        "incentiveLevel": None,
        "requirements": {
            "industries": [{"id": "Education"}],
            "products": [{"id": "Azure"}],
            "services": [{"id": "DeploymentOrMigration"}],
            "solutions": [{"id": "SOL-34104-EBB", "name": None, "type": "Name", **solution}],
            "offers": [],
            "salesPlays": [],
        },
    }


def _member(role: str, index: int, domain: str) -> Item:
    return {
        "firstName": role,
        "lastName": f"Contact{index}",
        "phoneNumber": None,
        "email": f"{role.lower()}.contact@{domain}",
        "title": None,
        "contactPreference": {"locale": ("en-us", None)[index % 2], "disableNotifications": None},
    }


def _links(referral_id: str) -> Item:
    base = "https://api.partner.microsoft.com/v1.0/engagements/referrals"  # the documented host, whoever serves it
    return {
        "relatedReferrals": {"uri": f"{base}?$filter=engagementId eq {referral_id}", "method": "GET"},
        "self": {"uri": f"{base}/{referral_id}", "method": "GET"},
    }


def _moment(moment: datetime, index: int) -> str:
    """Write a time with 7 fractional digits, sometimes 6 or none, as Microsoft sends them."""
    whole = moment.strftime("%Y-%m-%dT%H:%M:%S")
    return whole + (f".{index * 7 % 10_000_000:07d}Z", f".{index * 11 % 1_000_000:06d}Z", "Z")[index % 3]


class Collection:
    """The referrals there are: generated ones, made on demand, and those that somebody added or changed."""

    def __init__(self, count: int) -> None:
        self._edited: dict[str, Item] = {}
        self._count = count
        self._orders: dict[OrderField, list[Position]] = {"createdDateTime": [], "updatedDateTime": []}
        for index in range(count):
            item_id = identifier(index)
            updated = _FIRST_UPDATE + index * _STEP
            self._orders["updatedDateTime"].append((sortable(_moment(updated, index)), item_id))
            created = updated - timedelta(hours=12)
            self._orders["createdDateTime"].append((sortable(_moment(created, index)), item_id))
        self._removed: set[str] = set()

    def __len__(self) -> int:
        return len(self._orders["createdDateTime"])

    def get(self, referral_id: str) -> Item | None:
        """Give the referral as it is now."""
        if referral_id in self._edited:
            return self._edited[referral_id]
        try:
            index = index_of(referral_id)
        except ValueError:
            return None
        known = index < self._count and identifier(index) == referral_id and referral_id not in self._removed
        return generate(index) if known else None

    def add(self, changes: Item) -> Item:
        """Make a further referral, with these values."""
        item = generate(self._count + len(self._edited) + len(self._removed)) | changes
        while item["id"] in self._edited:
            item["id"] = identifier(index_of(item["id"]) + 1)
        self._edited[item["id"]] = item
        self._place(item)
        return item

    def change(self, referral_id: str, changes: Item) -> Item | None:
        """Put new values into a referral; unless given, the time of change is now."""
        before = self.get(referral_id)
        if before is None:
            return None
        self._displace(before)
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")
        item = before | {"updatedDateTime": f"{now}0Z"} | changes
        self._edited[referral_id] = item
        self._place(item)
        return item

    def remove(self, referral_id: str) -> bool:
        """Let a referral vanish, as one does when the signed-in account may no longer see it."""
        item = self.get(referral_id)
        if item is None:
            return False
        self._displace(item)
        self._edited.pop(referral_id, None)
        self._removed.add(referral_id)
        return True

    def in_order(
        self, field: OrderField, *, descending: bool, after: Position | None, since: str | None
    ) -> Iterator[Item]:
        """Walk the referrals in an order, beyond a position, and not before a time."""
        order = self._orders[field]
        low = bisect_left(order, (since, "")) if since else 0
        high = len(order)
        if after is not None and descending:
            high = bisect_left(order, after)
        elif after is not None:
            low = max(low, bisect_right(order, after))
        positions = range(high - 1, low - 1, -1) if descending else range(low, high)
        for position in positions:
            item = self.get(order[position][1])
            if item is not None:
                yield item

    def _place(self, item: Item) -> None:
        for field, order in self._orders.items():
            insort(order, (sortable(item[field]), item["id"]))

    def _displace(self, item: Item) -> None:
        for field, order in self._orders.items():
            order.pop(bisect_left(order, (sortable(item[field]), item["id"])))
