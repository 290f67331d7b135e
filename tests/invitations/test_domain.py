"""Rules without I/O."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from uuid import uuid4

import phonenumbers
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.invitations.domain import wording
from services.invitations.domain.bulk import Refusal, RowOutcome
from services.invitations.domain.codes import Shortage, Tier, Want, allot, make_codes
from services.invitations.domain.deliveries import LOOK_UP_PAUSES_SECONDS, State, settle_answer, settle_look_up
from services.invitations.domain.jobs import Progress
from services.invitations.domain.messages import (
    Accepted,
    DeliveryStatus,
    Found,
    LookUpFailed,
    NotFound,
    NotSent,
    Rejected,
    Unknown,
)
from services.invitations.domain.pacing import Pace, ProviderAccount
from services.invitations.domain.phones import PhoneInvalidError, mask_phone, read_phone
from services.invitations.domain.quiet import ISTANBUL, QuietHours
from services.invitations.domain.rows import Judge
from services.invitations.domain.throttle import Throttle
from services.invitations.domain.wording import TemplateInvalid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "text",
    [
        "05421396386",
        "+905421396386",
        "905421396386",
        "00905421396386",
        "5421396386",
        "+90 (542) 139-63-86",
        "0 542 139 63 86",
        "\u202a0542 139 63 86\u202c",
        "\u00a005421396386\ufeff",
        "\uff10\uff15\uff14\uff12\uff11\uff13\uff19\uff16\uff13\uff18\uff16",
        "٠٥٤٢١٣٩٦٣٨٦",
        "0542.139.63.86",
    ],
)
def test_a_mobile_number_is_read_in_every_usual_spelling(text: str) -> None:
    assert read_phone(text) == "+905421396386"


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "eksik"),
        ("   ", "eksik"),
        ("5,42E+09", "kısaltılmış"),
        ("5.421396386E+9", "kısaltılmış"),
        ("05421396386, 05331396386", "birden fazla"),
        ("05421396386/05331396386", "birden fazla"),
        ("05421396386abc", "harf"),
        ("tel:05421396386", "harf"),
        ("08501234567", "cep telefonu"),
        ("02121234567", "cep telefonu"),
        ("05611234567", "cep telefonu"),
        ("+15005550006", "Geçersiz"),
        ("0542139638", "Geçersiz"),
        ("054213963860", "Geçersiz"),
        ("++905421396386", "Geçersiz"),
        ("0" * 100, "uzun"),
    ],
)
def test_what_is_no_mobile_number_is_refused_with_the_reason(text: str, word: str) -> None:
    with pytest.raises(PhoneInvalidError, match=word):
        read_phone(text)


@given(st.one_of(st.integers(5_000_000_000, 5_999_999_999), st.integers(1_000_000_000, 9_999_999_999)))
def test_our_pattern_agrees_with_phonenumbers(national: int) -> None:
    parsed = phonenumbers.parse(str(national), "TR")
    mobile = phonenumbers.number_type(parsed) == phonenumbers.PhoneNumberType.MOBILE
    try:
        assert read_phone(f"0{national}") == f"+90{national}"
        accepted = True
    except PhoneInvalidError:
        accepted = False
    assert accepted == mobile


@given(st.text(max_size=80))
def test_any_text_is_a_phone_or_a_clear_refusal(text: str) -> None:
    try:
        phone = read_phone(text)
    except PhoneInvalidError as problem:
        phone = ""
        reason = str(problem)
    assert phonenumbers.is_valid_number(phonenumbers.parse(phone)) if phone else reason


def test_a_masked_phone_keeps_both_ends_only() -> None:
    assert mask_phone("+905421396386") == "+90542***6386"


def test_one_who_asks_too_much_does_not_stop_those_behind() -> None:
    wants = [Want(2, Tier.M), Want(9, Tier.M), Want(1, Tier.M)]
    assert allot(wants, {Tier.M: 3}) == [Tier.M, Shortage(1, 9, Tier.M), Tier.M]


def test_without_a_tier_the_lowest_that_can_serve_alone_is_taken() -> None:
    stock = {Tier.S: 2, Tier.L: 5}
    assert allot([Want(3, None), Want(2, None), Want(2, None), Want(1, None)], stock) == [
        Tier.L,
        Tier.S,
        Tier.L,
        Shortage(0, 1, None),
    ]


def test_a_shortage_is_told_in_the_words_that_clients_know() -> None:
    assert str(Shortage(0, 100, Tier.M)) == "Yetersiz kod (M tier). Mevcut: 0, İstenen: 100"
    assert str(Shortage(3, 5, None)) == "Yetersiz kod. Mevcut: 3, İstenen: 5"


tiers = st.sampled_from([None, *Tier])


@given(
    st.lists(st.builds(Want, st.integers(1, 20), tiers), max_size=40),
    st.dictionaries(st.sampled_from(Tier), st.integers(0, 60)),
)
def test_nothing_is_oversold_and_nobody_is_refused_what_is_there(wants: list[Want], stock: dict[Tier, int]) -> None:
    left = {tier: stock.get(tier, 0) for tier in Tier}
    for want, verdict in zip(wants, allot(wants, stock), strict=True):
        if isinstance(verdict, Shortage):
            assert all(left[tier] < want.quantity for tier in ([want.tier] if want.tier else Tier))
        else:
            left[verdict] -= want.quantity
            assert want.tier in {None, verdict}
    assert all(number >= 0 for number in left.values())


def test_new_codes_are_all_different() -> None:
    made = make_codes(Tier.XL, 1_000)
    assert len(set(made)) == 1_000
    assert all(code.startswith("XL-") and len(code) == 19 for code in made)


def test_a_template_without_the_link_gets_it_appended() -> None:
    variables = wording.variables_of(
        farmer_name="Ahmet", sponsor_name="Deniz", code_count=5, deep_link="https://x/ref/1"
    )
    text = wording.render("Merhaba {farmerName}!", variables, "https://x/ref/1/opt-out")
    assert text == "Merhaba Ahmet! https://x/ref/1\nRet: https://x/ref/1/opt-out"


def test_values_fit_into_one_line_of_an_approved_template() -> None:
    variables = wording.variables_of(
        farmer_name=" Ahmet\n\tYılmaz ", sponsor_name="Deniz    Örnek", code_count=1, deep_link="https://x/ref/ab12"
    )
    assert variables == {
        "farmerName": "Ahmet Yılmaz",
        "sponsorName": "Deniz Örnek",
        "codeCount": "1",
        "deepLink": "https://x/ref/ab12",
        "token": "ab12",
    }


def test_a_name_that_looks_like_a_placeholder_stays_a_name() -> None:
    variables = wording.variables_of(farmer_name="{deepLink}", sponsor_name="S", code_count=1, deep_link="https://x")
    assert wording.render("{farmerName}: {deepLink}", variables, "r").startswith("{deepLink}: https://x")


@pytest.mark.parametrize("template", ["Merhaba {isim}", "Merhaba {", "{farmerName}}", "{}", "x" * 501])
def test_a_template_that_cannot_be_filled_is_refused(template: str) -> None:
    with pytest.raises(TemplateInvalid) as refused:
        wording.read_template(template)
    assert refused.value.status == 422
    assert refused.value.fields[0].field == "customMessage"


@pytest.mark.parametrize("template", [None, "", "  "])
def test_no_template_means_the_default(template: str | None) -> None:
    assert wording.read_template(template) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a" * 155, ("GSM-7", 155, 1)),
        ("a" * 156, ("GSM-7", 156, 2)),
        ("€" * 10, ("GSM-7", 20, 1)),
        ("ş" * 150, ("GSM-7 Turkish", 150, 1)),
        ("ş" * 151, ("GSM-7 Turkish", 151, 2)),
        ("📱" * 32, ("UCS-2", 64, 1)),
        ("📱" * 33, ("UCS-2", 66, 2)),
    ],
)
def test_segments_are_counted_with_the_operators_code(text: str, expected: tuple[str, int, int]) -> None:
    assert tuple(wording.segments_of(text)) == expected


def test_only_what_was_certainly_not_sent_is_sent_again() -> None:
    delivery = uuid4()
    states = {
        outcome: settle_answer(delivery, outcome, attempt=1).state
        for outcome in (Accepted("1"), Rejected("21211", "no"), NotSent("429", 3.0), Unknown("ReadTimeout"))
    }
    assert list(states.values()) == [State.ACCEPTED, State.REJECTED, State.QUEUED, State.UNKNOWN]
    assert settle_answer(delivery, NotSent("429", 3.0), attempt=1).pause_seconds >= 3.0
    assert settle_answer(delivery, NotSent("429"), attempt=99).state is State.REJECTED


def test_an_unknown_message_is_sent_again_once_and_only_on_proof() -> None:
    delivery = uuid4()

    def state(answer: Found | NotFound | LookUpFailed, *, look_ups: int = 0, was_requeued: bool = False) -> State:
        return settle_look_up(delivery, answer, attempt=1, look_ups=look_ups, was_requeued=was_requeued).state

    assert state(Found("1", DeliveryStatus.DELIVERED)) is State.DELIVERED
    assert state(NotFound(authoritative=True)) is State.QUEUED
    assert state(NotFound(authoritative=True), was_requeued=True) is State.NEEDS_REVIEW
    assert state(NotFound(authoritative=False)) is State.UNKNOWN
    assert state(NotFound(authoritative=False), look_ups=len(LOOK_UP_PAUSES_SECONDS) - 1) is State.NEEDS_REVIEW
    assert state(LookUpFailed("HTTP 500"), look_ups=9) is State.UNKNOWN


def test_the_bucket_gives_what_it_has_and_fills_with_time() -> None:
    pace = Pace(per_second=10, burst=20)
    account = ProviderAccount(tokens=20, refilled_at=NOW, failures=0, paused_until=None)
    account, granted = account.take(50, pace, NOW)
    assert granted == 20
    account, granted = account.take(50, pace, NOW + timedelta(seconds=0.55))
    assert granted == 5
    assert account.pause_for(1, pace, NOW + timedelta(seconds=0.55)) == pytest.approx(0.05)
    assert account.pause_for(5, pace, NOW + timedelta(seconds=0.55)) == pytest.approx(0.45)
    assert account.pause_for(500, pace, NOW + timedelta(seconds=0.55)) == pytest.approx(0.95), "a second's worth"
    assert account.pause_for(0, pace, NOW + timedelta(seconds=0.55)) == 0


def test_the_circuit_opens_after_failures_in_a_row_and_closes_with_a_success() -> None:
    pace = Pace(10, 20)
    account = ProviderAccount(20, NOW, 0, None).learn(succeeded=0, failed=20, pause=None, now=NOW)
    assert account.take(1, pace, NOW)[1] == 0
    later = NOW + timedelta(minutes=1)
    assert account.take(1, pace, later)[1] == 1
    assert account.learn(succeeded=0, failed=1, pause=None, now=later).take(1, pace, later)[1] == 0
    assert account.learn(succeeded=1, failed=0, pause=None, now=later).failures == 0


def test_a_pause_that_the_provider_asks_for_is_kept() -> None:
    account = ProviderAccount(20, NOW, 0, None).learn(succeeded=5, failed=1, pause=30, now=NOW)
    assert account.pause_for(1, Pace(10, 20), NOW + timedelta(seconds=10)) == 20


@pytest.mark.parametrize(
    ("clock", "hours"),
    [("18:00", 0), ("20:59", 0), ("21:00", 12), ("23:30", 9.5), ("00:00", 9), ("08:59", 1 / 60), ("09:00", 0)],
)
def test_quiet_hours_over_midnight_end_in_the_morning_of_istanbul(clock: str, hours: float) -> None:
    quiet = QuietHours(time(21), time(9))
    now = datetime.combine(date(2026, 11, 22), time.fromisoformat(clock), ISTANBUL).astimezone(UTC)
    assert quiet.pause(now) == pytest.approx(hours * 3600)


def test_quiet_hours_within_a_day_end_on_that_day() -> None:
    quiet = QuietHours(time(12), time(13, 30))
    noon = datetime(2026, 11, 22, 12, 0, tzinfo=ISTANBUL)
    assert [quiet.pause(noon + timedelta(hours=hours)) for hours in (-1, 0, 1, 2)] == [0, 5400, 1800, 0]


def test_of_two_rows_with_one_number_the_first_counts() -> None:
    judge = Judge(Tier.S)
    assert judge.judge(2, "0542 139 63 86").refusal is None
    second = judge.judge(5, "+905421396386")
    assert second.refusal is Refusal.DUPLICATE_IN_FILE
    assert "satır 2" in str(second.reason)


@pytest.mark.parametrize(
    ("row", "refusal", "column"),
    [
        ({"phone_text": "x"}, Refusal.INVALID_PHONE, "Phone"),
        ({"phone_text": "05421396386", "tier": "Z"}, Refusal.INVALID_TIER, "PackageTier"),
        ({"phone_text": "05421396386", "email": "ahmet"}, Refusal.INVALID_ROW, "Email"),
        ({"phone_text": "05421396386", "farmer_name": "x" * 201}, Refusal.INVALID_ROW, "FarmerName"),
    ],
)
def test_a_faulty_row_is_refused_by_its_column(row: dict[str, str], refusal: Refusal, column: str) -> None:
    verdict = Judge().judge(2, **row)
    assert (verdict.refusal, verdict.column) == (refusal, column)


@pytest.mark.parametrize(
    ("counts", "cancelled", "status"),
    [
        ({RowOutcome.WAITING: 5, RowOutcome.FAILED: 1}, False, "Queued"),
        ({RowOutcome.WAITING: 4, RowOutcome.SENDING: 1}, False, "Processing"),
        ({RowOutcome.SENT: 9, RowOutcome.UNKNOWN: 1}, False, "Processing"),
        ({RowOutcome.SENT: 10}, False, "Completed"),
        ({RowOutcome.SENT: 9, RowOutcome.FAILED: 1}, False, "CompletedWithErrors"),
        ({RowOutcome.SENT: 9, RowOutcome.NEEDS_REVIEW: 1}, False, "CompletedWithErrors"),
        ({RowOutcome.SENT: 9, RowOutcome.CANCELLED: 1}, True, "Cancelled"),
        ({RowOutcome.CANCELLED: 10}, True, "Cancelled"),
        ({RowOutcome.FAILED: 10}, False, "Failed"),
    ],
)
def test_a_job_is_what_its_rows_are(counts: dict[RowOutcome, int], cancelled: bool, status: str) -> None:
    settled = Progress(counts, NOW, None, cancelled)
    if settled.settled < settled.total:
        assert settled.status == status
        return
    assert (settled.status, settled.percent) == ("Processing", 99), "its end is not written down yet"
    ended = Progress(counts, NOW, NOW, cancelled)
    assert (ended.status, ended.percent) == (status, 100)


def test_an_estimate_follows_from_the_rate_so_far() -> None:
    progress = Progress({RowOutcome.SENT: 50, RowOutcome.WAITING: 50}, NOW, None, was_cancelled=False)
    now = NOW + timedelta(seconds=10)
    assert (progress.percent, progress.rate(now)) == (50, 5.0)
    assert progress.estimated_end(now) == NOW + timedelta(seconds=20)


def test_the_throttle_lets_so_many_a_minute_through() -> None:
    clock = [0.0]
    throttle = Throttle(6, clock=lambda: clock[0])
    assert [throttle.wait_for("a") for _ in range(6)] == [0.0] * 6
    assert throttle.wait_for("a") == pytest.approx(10)
    assert throttle.wait_for("b") == 0
    clock[0] = 10.0
    assert throttle.wait_for("a") == 0
