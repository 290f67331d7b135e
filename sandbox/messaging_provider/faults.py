"""The knobs: which share of the requests goes wrong, and how."""

import random
from enum import Enum

from pydantic import BaseModel, ConfigDict, Field

Rate = Field(default=0.0, ge=0.0, le=1.0)


class Fault(Enum):
    """One way in which a send goes wrong; the last two have taken the message before."""

    TOO_MANY = "too_many"
    SERVER_ERROR = "server_error"
    DROP = "drop"
    ACCEPT_THEN_ERROR = "accept_then_error"
    ACCEPT_THEN_DROP = "accept_then_drop"


class Knobs(BaseModel):
    """Every setting of the stand-in; rates are shares of 1, delays are seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    latency_seconds: float = Field(
        default=0.0, ge=0.0, le=120.0, description="wait before the answer, after acceptance"
    )
    too_many_rate: float = Rate
    retry_after_seconds: int | None = Field(default=None, ge=0, description="Retry-After header of a 429")
    server_error_rate: float = Rate
    drop_rate: float = Rate
    accept_then_error_rate: float = Rate
    accept_then_drop_rate: float = Rate
    look_up_error_rate: float = Rate
    account_refused: bool = Field(default=False, description="wrong credentials, whatever was given")
    refuse_duplicates: bool = Field(default=False, description="answer a second identical message as a duplicate")
    rejected_phones: frozenset[str] = Field(default=frozenset(), description="E.164 numbers refused for good")
    undelivered_rate: float = Rate
    reports: bool = Field(default=True, description="push delivery reports at all")
    verimor_report_url: str | None = Field(default=None, description="where Verimor's account has its reports sent")
    report_delay_seconds: float = Field(default=0.05, ge=0.0, le=3600.0, description="before each report of a message")
    report_duplicate_rate: float = Rate
    reports_out_of_order: bool = Field(default=False, description="the last status of a message is reported first")
    report_retry_seconds: float = Field(default=0.5, gt=0.0, description="Verimor waits 5 minutes; tests do not")
    seed: int | None = Field(default=None, description="makes the sequence of faults repeatable")


class Faults:
    """Draws what happens to the next request."""

    def __init__(self, knobs: Knobs) -> None:
        self.knobs = knobs
        self._random = random.Random(knobs.seed)
        self._shares = [(fault, getattr(knobs, f"{fault.value}_rate")) for fault in Fault]
        self._any = any(share for _, share in self._shares)

    def draw(self) -> Fault | None:
        """Choose the fault of the next send, if any."""
        if not self._any:
            return None
        point = self._random.random()
        for fault, share in self._shares:
            if point < share:
                return fault
            point -= share
        return None

    def happens(self, rate: float) -> bool:
        """Decide one thing that happens at this rate."""
        return rate > 0 and self._random.random() < rate
