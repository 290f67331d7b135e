from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.microsoft import SandboxMicrosoft, running_microsoft


@pytest.fixture(scope="session")
def microsoft_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxMicrosoft]:
    directory: Path = tmp_path_factory.mktemp("microsoft")
    with running_microsoft(directory) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(microsoft_process: SandboxMicrosoft, monkeypatch: pytest.MonkeyPatch) -> SandboxMicrosoft:
    # The sandbox shares this machine, and may be kept from answering for longer than Microsoft is waited for.
    monkeypatch.setattr("services.referrals.microsoft._REQUEST_SECONDS", (60, 60))
    microsoft_process.reset()
    return microsoft_process
