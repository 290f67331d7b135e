"""Both overlays, rendered once."""

from __future__ import annotations

import functools

import pytest

from tests.deploy.rendering import KUBECTL, KUBERNETES, OVERLAYS, Manifests, render


@functools.cache
def rendered(overlay: str) -> Manifests:
    if not KUBECTL.exists():
        pytest.skip("kubectl comes with the development packages on Linux only")
    return Manifests(overlay, render(KUBERNETES / "overlays" / overlay))


@pytest.fixture(params=OVERLAYS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    """Each overlay in turn."""
    return rendered(request.param)


@pytest.fixture
def cluster() -> Manifests:
    """The overlay of many machines."""
    return rendered("cluster")


@pytest.fixture
def single_node() -> Manifests:
    """The overlay of one machine."""
    return rendered("single-node")
