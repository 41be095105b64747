"""The sample world, opened once for all tests of this folder."""

from __future__ import annotations

import pytest

from sfumato.world.store import World, open_world


@pytest.fixture(scope="session")
def world() -> World:
    return open_world("sample")
