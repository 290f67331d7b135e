"""What audit can be asked to do."""

from __future__ import annotations

from services.audit.commands.checkpoints import copy_checkpoints, take_checkpoint
from services.audit.commands.reading import record_export, record_reading
from services.audit.commands.retention import drop_months, erase_person, export_months, plan_pruning
from services.audit.commands.sealing import make_partitions, seal
from services.audit.commands.verification import (
    finish_verification,
    queue_verification,
    request_verification,
    start_verification,
    verify,
)

__all__ = [
    "copy_checkpoints",
    "drop_months",
    "erase_person",
    "export_months",
    "finish_verification",
    "make_partitions",
    "plan_pruning",
    "queue_verification",
    "record_export",
    "record_reading",
    "request_verification",
    "seal",
    "start_verification",
    "take_checkpoint",
    "verify",
]
