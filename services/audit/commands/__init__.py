"""What audit can be asked to do."""

from __future__ import annotations

from services.audit.commands.acknowledgements import acknowledge
from services.audit.commands.checkpoints import copy_checkpoints, take_checkpoint
from services.audit.commands.reading import record_export, record_reading, record_refusal
from services.audit.commands.results import (
    find_pending,
    find_result,
    finish_verification,
    queue_verification,
    request_verification,
    start_verification,
)
from services.audit.commands.retention import drop_months, erase_person, export_months, plan_pruning
from services.audit.commands.sealing import make_partitions, seal
from services.audit.commands.verification import verify

__all__ = [
    "acknowledge",
    "copy_checkpoints",
    "drop_months",
    "erase_person",
    "export_months",
    "find_pending",
    "find_result",
    "finish_verification",
    "make_partitions",
    "plan_pruning",
    "queue_verification",
    "record_export",
    "record_reading",
    "record_refusal",
    "request_verification",
    "seal",
    "start_verification",
    "take_checkpoint",
    "verify",
]
