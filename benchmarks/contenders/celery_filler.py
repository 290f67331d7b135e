"""Fills Celery's queue with the same messages in Celery's own form."""

from __future__ import annotations

import sys

import orjson

from benchmarks import material
from benchmarks.contenders.celery_app import keep


def main(size: int, repeated_every: int) -> None:
    """Send `size` tasks, some of them twice."""
    with keep.app.producer_or_acquire() as producer:
        for number, (event_id, body) in enumerate(material.bodies(size), start=1):
            data = orjson.loads(body)["data"]
            for _ in range(1 if number % repeated_every else 2):
                keep.apply_async((event_id, data), producer=producer)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
    print("{}")
