"""A small corpus, a small encoder, and processes that are killed, for the tests of what builds memories."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.retrieval.corpus import Item, Slice
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.fault import Fault
from sfumato.retrieval.memory import EncoderFacts
from sfumato.retrieval.patches import Whole

__all__ = ["SIDE", "WIDTH", "Pictures", "encode", "facts_of", "maker", "process", "run_and_die", "tree"]

SIDE, WIDTH = 8, 16
_LIBRARIES = ["sfumato.retrieval.change", "pandas", "pytest", "PIL.PngImagePlugin", "PIL.WebPImagePlugin"]
_EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}


@dataclass(frozen=True)
class Pictures:
    """Noise from seeds: ``first`` on, ``count`` of them; those in ``broken`` are cut short."""

    name: str
    count: int
    size: int = 4
    first: int = 0
    broken: tuple[int, ...] = ()

    @property
    def digest(self) -> str:
        return f"{self.count:04x}{self.size:04x}{self.first:04x}{len(self.broken):04x}"

    @property
    def slices(self) -> list[Slice]:
        starts = range(0, self.count, self.size)
        return [
            Slice(number, min(self.size, self.count - start), "", start, min(start + self.size, self.count))
            for number, start in enumerate(starts)
        ]

    def read(self, part: Slice) -> Iterator[Item | Fault]:
        for number in range(self.first + part.start, self.first + part.stop):
            pixels = np.random.default_rng(number).integers(0, 256, (12, 10, 3), np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, "PNG")
            content = file.getvalue()[:60] if number in self.broken else file.getvalue()
            yield Item(f"{number:05d}.png", content, f"noise {number}" if number % 2 else None)


def encode(images: Tensor) -> Tensor:
    """A fixed random projection: (B, 3, 8, 8) to (B, 16)."""
    weights = torch.randn(3 * SIDE * SIDE, WIDTH, generator=torch.Generator().manual_seed(0))
    return images.flatten(1) @ weights


def facts_of(name: str = "noise", fingerprint: str = "0f") -> EncoderFacts:
    return EncoderFacts(name, fingerprint, WIDTH, SIDE)


def maker(batch: int = 3, threads: int = 2) -> Maker:
    return Maker(encode, facts_of(), Whole(), batch, threads)


def tree(folder: Path) -> dict[str, bytes]:
    """All files and folders of a memory but its lock."""
    paths = (path for path in folder.rglob("*") if path.name != ".lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b"" for path in paths}


def run_and_die(function: Callable[..., object], folder: Path, words: tuple[object, ...], at: int) -> bool:
    """Call ``function(folder, *words)`` in a process that dies as it is to touch the disk for the ``at``-th time.

    Returns:
        whether it was killed; False: it came to its end before.
    """
    child = process(_die, function, folder, words, at)
    child.join(60)
    assert child.exitcode in (0, -signal.SIGKILL), child.exitcode
    return child.exitcode != 0


def process(function: Callable[..., object], *words: object) -> multiprocessing.process.BaseProcess:
    """A process of its own that has begun; forked from one that has the libraries loaded and no threads."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_LIBRARIES)
    child = context.Process(target=function, args=words)
    child.start()
    return child


def _die(function: Callable[..., object], folder: Path, words: tuple[object, ...], at: int) -> None:
    torch.set_num_threads(1)
    left = at

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        if event in _EVENTS and str(arguments[0]).startswith(str(folder)):
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)
    function(folder, *words)
