"""Every test runs on one torch thread, with deterministic algorithms and a fresh global seed."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
