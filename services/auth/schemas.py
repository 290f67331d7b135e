"""Bodies of requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    TypeAdapter,
    field_validator,
    model_validator,
)

from services.auth.commands.tokens import Issued
from services.auth.domain.accounts import Account, normal_email, permissions_of
from services.auth.domain.sessions import Session
from shared.errors import Failure

# Far above the longest password (128): what is longer is an attack on the hash, not a password.
_LONGEST_SECRET = 1_024
_LONGEST_TOKEN = 4_096
# An access token names each sponsor, and one of more than 8,192 characters is taken by nobody (shared/identity.py).
_LONGEST_GRANTS = 5_000


def _email(text: str) -> str:
    try:
        return normal_email(text)
    except Failure as error:
        raise ValueError(error.fields[0].message) from None


def _encodable(secret: SecretStr) -> SecretStr:
    """Refuse half a character (a lone surrogate), which JSON can spell and nothing can hash."""
    try:
        secret.get_secret_value().encode()
    except UnicodeEncodeError:
        raise ValueError("This is no Unicode text.") from None
    return secret


Email = Annotated[str, StringConstraints(max_length=320), AfterValidator(_email)]
FullName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Password = Annotated[SecretStr, Field(min_length=1, max_length=_LONGEST_SECRET), AfterValidator(_encodable)]
Token = Annotated[SecretStr, Field(max_length=_LONGEST_TOKEN), AfterValidator(_encodable)]
Code = Annotated[str, StringConstraints(min_length=6, max_length=64)]


class Body(BaseModel):
    """A request body: what it does not name is refused, so that a typing error is not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _example(body: dict[str, Any]) -> ConfigDict:
    return ConfigDict(json_schema_extra={"examples": [body]})


class Credentials(Body):
    """An address, a password and, where a second factor is enrolled, a code."""

    model_config = _example({"email": "admin@example.com", "password": "the password of this account"})

    # Any text: an address that nobody can have gets the same answer as one that nobody has.
    email: Annotated[str, StringConstraints(min_length=1, max_length=320)]
    password: Password
    code: Code | None = None


class RefreshToken(Body):
    """A refresh token."""

    refresh_token: Token


class ResetRequest(Body):
    """Whose password is forgotten."""

    model_config = _example({"email": "admin@example.com"})

    email: Email


class NewPassword(Body):
    """A reset token and the password that it is to set."""

    model_config = _example({"token": "the token from the message", "new_password": "four plain words together"})

    token: Token
    new_password: Password


class ResetToken(Body):
    """A reset token that is to be worth nothing any more."""

    token: Token


class PasswordChange(Body):
    """The present password and the next one."""

    current_password: Password
    new_password: Password


class Proof(Body):
    """The present password, to prove that it is the owner who asks."""

    password: Password


class Confirmation(Body):
    """The first code of a new authenticator app."""

    code: Code


class FullProof(Proof):
    """The present password and a code."""

    code: Code


class NewUserBody(Body):
    """A person who is to have an account."""

    email: Email
    full_name: FullName
    roles: list[str] = Field(max_length=10)


class UserChangeBody(Body):
    """What is to be different about a user."""

    full_name: FullName | None = None
    roles: list[str] | None = Field(None, max_length=10)
    is_active: bool | None = None
    status: Literal["active", "disabled"] | None = None

    @model_validator(mode="after")
    def _one_state(self) -> Self:
        if self.is_active is not None and self.status is not None and self.is_active != (self.status == "active"):
            raise ValueError("is_active and status say different things")
        return self

    @property
    def active(self) -> bool | None:
        """Give the wanted state, however it was said."""
        return self.is_active if self.status is None else self.status == "active"


class GrantsBody(Body):
    """For which sponsors an admin may act."""

    sponsor_ids: list[Annotated[int, Field(strict=True, ge=1, le=2**63 - 1)]] | Literal["all"]

    @field_validator("sponsor_ids")
    @classmethod
    def _a_token_can_name_them(cls, value: list[int] | Literal["all"]) -> list[int] | Literal["all"]:
        if value != "all" and len(",".join(map(str, set(value)))) > _LONGEST_GRANTS:
            raise ValueError('These are more sponsors than an access token can name: give fewer of them, or "all"')
        return value

    @property
    def grants(self) -> frozenset[int] | Literal["all"]:
        """Give the grants as a set."""
        return "all" if self.sponsor_ids == "all" else frozenset(self.sponsor_ids)


class Done(BaseModel):
    """It is done, or it is on its way; the shape that clients of the older APIs read."""

    success: Literal[True] = True
    message: str


class SignedInUser(BaseModel):
    """Who signed in."""

    id: int
    email: str
    full_name: str
    roles: list[str]
    permissions: list[str]


class Tokens(BaseModel):
    """What a client gets when it signs in or refreshes."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105  the name of a scheme
    expires_in: int
    refresh_token: str
    user: SignedInUser
    second_factor_enrolment_required: bool = False

    @classmethod
    def of(cls, issued: Issued) -> Self:
        """Describe issued tokens."""
        account = issued.account
        return cls(
            access_token=issued.access_token,
            expires_in=issued.expires_in,
            refresh_token=issued.refresh_token,
            user=SignedInUser(
                id=account.id,
                email=account.email,
                full_name=account.full_name,
                roles=sorted(issued.roles),
                permissions=sorted(permissions_of(issued.roles)),
            ),
            second_factor_enrolment_required=issued.second_factor_missing,
        )


class User(BaseModel):
    """An account as admins and its owner see it."""

    id: int
    email: str
    full_name: str
    roles: list[str]
    permissions: list[str]
    is_active: bool
    status: Literal["active", "disabled"]
    on_behalf_of: list[int] | Literal["all"]
    has_password: bool
    has_second_factor: bool
    admin_until: datetime | None
    signed_in_at: datetime | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, account: Account) -> Self:
        """Describe an account."""
        return cls(
            id=account.id,
            email=account.email,
            full_name=account.full_name,
            roles=sorted(account.roles),
            permissions=sorted(permissions_of(account.roles)),
            is_active=account.is_active,
            status=account.status,
            on_behalf_of="all" if account.on_behalf_of == "all" else sorted(account.on_behalf_of),
            has_password=account.password_hash is not None,
            has_second_factor=account.has_second_factor,
            admin_until=account.admin_until,
            signed_in_at=account.signed_in_at,
            created_at=account.created_at,
            updated_at=account.updated_at,
        )


class UserPage(BaseModel):
    """A page of users."""

    items: list[User]
    next_cursor: str | None


class SessionView(BaseModel):
    """A signed-in device as its owner sees it."""

    id: UUID
    created_at: datetime
    used_at: datetime
    expires_at: datetime
    ip: str | None
    user_agent: str | None
    with_second_factor: bool
    is_current: bool

    @classmethod
    def of(cls, session: Session, current: str) -> Self:
        """Describe a session."""
        return cls(
            id=session.id,
            created_at=session.created_at,
            used_at=session.used_at,
            expires_at=session.expires_at,
            ip=session.ip,
            user_agent=session.user_agent,
            with_second_factor=session.with_second_factor,
            is_current=str(session.id) == current,
        )


class SessionList(BaseModel):
    """All sessions of one account; there are few."""

    items: list[SessionView]
    next_cursor: None = None


class Enrolment(BaseModel):
    """What the authenticator app needs."""

    secret: str
    provisioning_uri: str


class RecoveryCodes(BaseModel):
    """Recovery codes, shown once."""

    recovery_codes: list[str]


class SeedAccount(Body):
    """An account of the demo, as the seed file gives it."""

    id: Annotated[int, Field(ge=1, lt=1000)]  # later ids are given out by the database
    email: Email
    full_name: FullName
    roles: list[str]
    is_active: bool = True
    password: Password
    on_behalf_of: list[int] | Literal["all"] = []


SeedFile = TypeAdapter(list[SeedAccount])
