"""The tour of `make demo-docker`, step by step, through the containers."""

from __future__ import annotations

import pytest

from local.tour.guide import Guide
from local.tour.journey import STEPS, Step

pytestmark = [pytest.mark.docker, pytest.mark.timeout(2_400)]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: f"{step.name}-{step.take.__name__}")
def test_what_the_tour_shows_holds_in_containers(guide: Guide, step: Step) -> None:
    step.take(guide)
