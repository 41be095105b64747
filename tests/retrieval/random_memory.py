"""A memory of given vectors, and its proposal counted by looking at all of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.retrieval.entry import Entry, id_of
from sfumato.retrieval.index import build_index
from sfumato.retrieval.memory import EncoderFacts, Memory, MemoryFacts, write_facts
from sfumato.retrieval.part import write_part

__all__ = ["WIDTH", "counted_by_hand", "normal", "remembered"]

WIDTH = 8


def normal(count: int, seed: int) -> Tensor:
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(seed))


def remembered(folder: Path, vectors: Tensor) -> Memory:
    """A memory of one part whose rows are ``vectors`` (N, WIDTH), rounded to float16, with an exact index."""
    count, box = len(vectors), (0, 0, 9, 9)
    names = [(f"{row}.png", f"{row:032x}") for row in range(count)]
    entries = [Entry(id_of(name, digest, box), name, digest, box, None, b"") for name, digest in names]
    write_part(folder / "parts", "000000", vectors, entries)
    facts = MemoryFacts(EncoderFacts("random", "00", WIDTH, 8), "whole", ("random",), (("000000", count),), None)
    write_facts(folder, facts)
    write_facts(folder, replace(facts, index=build_index(folder, Memory.open(folder).stream)))
    return Memory.open(folder)


def counted_by_hand(memory: Memory, training: Tensor, k: int) -> Tensor:
    """p_D (N,) float64: of each entry, in how many of the k largest cosines it is, divided by k |X|."""
    entries = memory.vectors(torch.arange(len(memory))).double()
    cosines = torch.nn.functional.cosine_similarity(training.double()[:, None], entries[None], dim=-1)
    used = torch.zeros(len(entries), dtype=torch.float64)
    for row in cosines:
        used[row.argsort(descending=True)[:k]] += 1
    return used / (k * len(training))
