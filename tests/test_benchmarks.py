"""The networks and loops that the speed benchmarks compare: that they are built, and make the same pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def test_both_loops_of_the_embedded_size_make_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    from networks import EMBEDDED, our_loop, their_loop

    unet = EMBEDDED.unet()
    ours, theirs = (loop(EMBEDDED, unet, 2, 2, torch.float32)() for loop in (our_loop, their_loop))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)
    assert sum(each.numel() for each in EMBEDDED.vae().parameters()) > 1e6
