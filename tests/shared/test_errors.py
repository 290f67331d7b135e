"""Each kind of failure means one thing to an HTTP client and one thing to a message."""

from __future__ import annotations

import pytest

from shared import errors
from shared.errors import Failure, Fate, FieldError, fate_of


class ResetTokenInvalid(errors.BadRequest):
    code = "TEST_RESET_TOKEN_INVALID"
    message = "The token is not valid."


TABLE = [
    (errors.BadRequest, 400, Fate.DEAD_LETTER),
    (errors.Unauthenticated, 401, Fate.DEAD_LETTER),
    (errors.Forbidden, 403, Fate.DEAD_LETTER),
    (errors.NotFound, 404, Fate.RETRY),
    (errors.MethodNotAllowed, 405, Fate.DEAD_LETTER),
    (errors.Conflict, 409, Fate.ACKNOWLEDGE),
    (errors.TooLarge, 413, Fate.DEAD_LETTER),
    (errors.UnsupportedMedia, 415, Fate.DEAD_LETTER),
    (errors.Invalid, 422, Fate.DEAD_LETTER),
    (errors.TooMany, 429, Fate.RETRY),
    (errors.Unavailable, 503, Fate.RETRY),
    (Failure, 500, Fate.RETRY),
]


@pytest.mark.parametrize(("kind", "status", "fate"), TABLE, ids=lambda value: getattr(value, "__name__", None))
def test_a_kind_has_one_status_and_one_fate(kind: type[Failure], status: int, fate: Fate) -> None:
    assert (kind.status, fate_of(kind())) == (status, fate)


def test_every_kind_is_in_the_table() -> None:
    kinds = {kind for kind in Failure.__subclasses__() if kind.__module__ == "shared.errors"}

    assert kinds == {kind for kind, _, _ in TABLE} - {Failure}


def test_a_message_whose_handler_fails_in_an_unforeseen_way_is_tried_again() -> None:
    assert fate_of(ZeroDivisionError()) is Fate.RETRY


def test_a_concrete_failure_is_its_kind_with_its_own_code_and_words() -> None:
    error = ResetTokenInvalid()

    assert (error.status, error.code, str(error)) == (400, "TEST_RESET_TOKEN_INVALID", "The token is not valid.")


def test_words_and_code_of_one_occurrence_leave_the_class_alone() -> None:
    special = ResetTokenInvalid("It was used at 10:00.", code="TEST_RESET_TOKEN_USED")

    assert (special.message, special.code) == ("It was used at 10:00.", "TEST_RESET_TOKEN_USED")
    assert (ResetTokenInvalid().message, ResetTokenInvalid().code) == (
        ResetTokenInvalid.message,
        ResetTokenInvalid.code,
    )


def test_what_is_unavailable_says_when_to_come_back() -> None:
    assert errors.Unavailable().retry_after == 2
    assert errors.Unavailable(retry_after=30).retry_after == 30


def test_a_field_error_gives_field_message_and_code() -> None:
    assert FieldError("email", "Must be an e-mail address.").as_dict() == {
        "field": "email",
        "message": "Must be an e-mail address.",
        "code": "INVALID",
    }
