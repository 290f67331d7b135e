"""Limits and breaker: how often, and how long a failing service is left alone."""

from __future__ import annotations

from services.gateway.domain.breaker import Breaker
from services.gateway.domain.limits import TokenBuckets, address_key


def test_a_full_bucket_gives_all_its_tokens_at_once_and_then_one_per_interval() -> None:
    buckets = TokenBuckets(30)
    taken = [buckets.take("a", 100.0) for _ in range(31)]
    assert [allowance.allowed for allowance in taken] == [True] * 30 + [False]
    assert [allowance.remaining for allowance in taken] == [*range(29, -1, -1), 0]
    assert taken[-1].reset_seconds == 2
    assert not buckets.take("a", 101.9).allowed
    assert buckets.take("a", 102.0).allowed
    assert not buckets.take("a", 102.0).allowed


def test_refusals_do_not_push_the_next_token_away() -> None:
    buckets = TokenBuckets(1)
    assert buckets.take("a", 0.0).allowed
    for second in range(60):
        assert not buckets.take("a", float(second)).allowed
    assert buckets.take("a", 60.0).allowed


def test_callers_do_not_share_a_bucket() -> None:
    buckets = TokenBuckets(1)
    assert buckets.take("a", 0.0).allowed
    assert buckets.take("b", 0.0).allowed


def test_a_bucket_is_full_again_after_a_minute() -> None:
    buckets = TokenBuckets(10)
    for _ in range(10):
        buckets.take("a", 0.0)
    assert buckets.take("a", 60.0).remaining == 9


def test_a_flood_of_addresses_does_not_eat_the_memory() -> None:
    buckets = TokenBuckets(10, max_keys=100)
    for number in range(1_000):
        buckets.take(number, 0.0)
    assert len(buckets) == 100


def test_whoever_asks_often_is_not_forgotten_in_a_flood() -> None:
    buckets = TokenBuckets(2, max_keys=10)
    for number in range(100):
        buckets.take("busy", 0.0)
        buckets.take(number, 0.0)
    assert not buckets.take("busy", 0.0).allowed


def test_an_ipv6_site_counts_as_one() -> None:
    assert address_key("2001:db8:1:2::1") == address_key("2001:db8:1:2:ffff::9")
    assert address_key("2001:db8:1:2::1") != address_key("2001:db8:1:3::1")
    assert address_key("::ffff:192.0.2.1") == address_key("192.0.2.1") == "192.0.2.1"


def test_a_breaker_opens_after_failures_in_a_row_and_closes_after_a_success() -> None:
    breaker = Breaker(threshold=3, first_seconds=1.0)
    for _ in range(2):
        breaker.failed(0.0)
    breaker.succeeded()
    for _ in range(3):
        assert breaker.wait_seconds(0.0) == 0
        breaker.failed(0.0)
    assert breaker.is_open
    assert breaker.wait_seconds(0.5) == 1
    assert breaker.wait_seconds(1.0) == 0, "one trial goes through"
    assert breaker.wait_seconds(1.0) == 1, "and only one"
    breaker.succeeded()
    assert not breaker.is_open
    assert breaker.wait_seconds(1.0) == 0


def test_each_failed_trial_doubles_the_pause_up_to_the_longest() -> None:
    breaker = Breaker(threshold=1, first_seconds=1.0, max_seconds=4.0)
    now = 0.0
    breaker.failed(now)
    pauses = []
    for _ in range(4):
        pause = breaker.wait_seconds(now)
        pauses.append(pause)
        now += pause
        assert breaker.wait_seconds(now) == 0
        breaker.failed(now)
    assert pauses == [1, 2, 4, 4]


def test_a_trial_whose_client_hung_up_leaves_the_next_one_its_chance() -> None:
    breaker = Breaker(threshold=1)
    breaker.failed(0.0)
    assert breaker.wait_seconds(1.0) == 0
    breaker.undecided()
    assert breaker.wait_seconds(1.0) == 0
