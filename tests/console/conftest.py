"""The console runs on the gateway's event loop, and so do its tests."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import pytest
import uvloop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Make the loops of this folder's tests uvloop's."""
    del config, item
    return {"uvloop": uvloop.new_event_loop}
