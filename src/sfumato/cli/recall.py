"""What pictures take from a memory: the flags, the search, and what it becomes in the context."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sfumato.cli.parser import UsageError
from sfumato.cli.progress import note
from sfumato.cli.sources import Sources
from sfumato.cli.values import existing_folder, number, whole
from sfumato.from_memory import NULLS, FromMemory
from sfumato.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.checkpoints.parts import Parts
    from sfumato.checkpoints.rarm import RarmParts
    from sfumato.flows.retrieve import Fill
    from sfumato.flows.steering import Steering
    from sfumato.retrieval.memory import Memory

__all__ = ["add_memory_flags", "context_of", "recall_of", "recalled", "with_neighbours"]

_OFF: Mapping[str, Any] = {
    **dict.fromkeys(("unconditional", "show_neighbours", "uniform"), False),
    **{"pool": 0, "top_m": None, "mode": FromMemory.mode, "neighbours": FromMemory.count, "null": FromMemory.null},
}
"""What the flags are when nothing is asked of a memory."""
_ALONE = ("text", "query")
"""Modes whose context has no neighbours."""


def add_memory_flags(parser: argparse.ArgumentParser) -> None:
    """Flags on a memory whose pictures are in the context, all off if not given."""
    add = parser.add_argument_group("a memory, see `sfumato memory`; off if not given").add_argument
    modes = ("text", "query", "neighbours", "both", "and")
    mode = "the query alone (text), its neighbours, both in one context, or both as AND (both)"
    unasked = "without a prompt: start from an entry that training pictures are near to"
    add("--memory", type=existing_folder, metavar="DIR", help="take the nearest pictures of a memory along")
    add("--neighbours", type=whole(1, 64), default=FromMemory.count, metavar="K", help="pictures in the context (4)")
    add("--mode", choices=modes, default=FromMemory.mode, help=mode)
    add("--pool", type=whole(0, 1_000_000), default=0, metavar="L", help="draw the K from the L nearest (off)")
    add("--unconditional", action="store_true", help=unasked)
    add("--top-m", type=number(1e-9, 1), metavar="M", help="share of the memory that may be started from (1)")
    add("--uniform", action="store_true", help="start from all entries of that share alike, not as often as they serve")
    add("--null", choices=NULLS, default="trained", help="what guidance starts from: the trained null, or zeros")
    add("--show-neighbours", action="store_true", help="also write a sheet a picture with its neighbours beside it")


def recall_of(options: argparse.Namespace, sources: Sources) -> FromMemory | None:
    """What the flags of :func:`add_memory_flags` say; the picture of ``--like`` is the query.

    Raises:
        UsageError: no such memory, or flags that do not go together.
    """
    if options.memory is None:
        alone = [flag for flag, unasked in _OFF.items() if vars(options)[flag] != unasked]
        if alone:
            raise UsageError(f"--{alone[0].replace('_', '-')} speaks of a memory; name its folder by --memory")
        return None
    asked = getattr(options, "like", None)
    if options.unconditional and (asked is not None or options.mode in ("text", "query", "and")):
        raise UsageError("--unconditional has no query: leave out --like and --mode")
    if not options.unconditional and (options.top_m is not None or options.uniform):
        raise UsageError("--top-m and --uniform say how --unconditional starts; add it, or leave them out")
    _check_idle(options)
    return FromMemory(
        memory=sources.add_memory(options.memory),
        mode="neighbours" if options.unconditional else options.mode.replace("text", "query"),
        count=options.neighbours,
        pool=options.pool,
        query=None if asked is None else sources.add(asked),
        share=(options.top_m or 1.0) if options.unconditional else None,
        weighted=not options.uniform,
        null=options.null,
    )


def _check_idle(options: argparse.Namespace) -> None:
    """Tell which flags on a memory have no effect beside its mode, or without guidance."""
    if options.null != _OFF["null"] and set(options.guidance) == {1.0} and not options.concepts:
        note("without guidance (--guidance 1) --null does nothing", quiet=options.quiet)
    if options.unconditional:
        return
    alone = dict.fromkeys(_ALONE, ("neighbours", "pool", "show_neighbours"))
    for flag in {**alone, "and": ("null",)}.get(options.mode, ()):
        if vars(options)[flag] != _OFF[flag]:
            note(f"with --mode {options.mode} --{flag.replace('_', '-')} does nothing", quiet=options.quiet)


def recalled(parts: Parts | RarmParts, batch: Sequence[Recipe], sources: Sources) -> list[Recipe]:
    """Recipes with the names of the entries that are in their contexts; those that have them stay as they are.

    Args:
        parts: of the model.
        batch: recipes that differ in prompt and seed only.
        sources: has the memory, and the encoder of queries.

    Raises:
        UsageError: the memory was made with another encoder than the model's, or the model has none; or it holds fewer
            pictures than are asked for.
    """
    asked = batch[0].recall
    if asked is None or all(recipe.recall and recipe.recall.found for recipe in batch):
        return list(batch)
    from sfumato.core.noise import Noise
    from sfumato.flows.retrieve import Recall, recall

    memory, noise = sources.memory(asked.memory), Noise([recipe.seed for recipe in batch])
    how = Recall(asked.count, _fill(asked, _has_words(parts, batch)), asked.pool)
    if max(how.pool, how.entries) > len(memory):
        most = f"--pool {len(memory)}" if how.pool else f"--neighbours {len(memory) + how.count - how.entries}"
        raise UsageError(f"the memory '{asked.memory.name}' has {len(memory)} pictures; {most} takes all of them")
    rows = recall(memory, _queries(batch, asked, sources, memory), how, noise).rows
    made: list[Recipe] = []
    for recipe, own in zip(batch, rows.tolist(), strict=True):
        found = tuple((entry.id, entry.source[-4096:]) for entry in memory.entries(own))
        made.append(replace(recipe, recall=replace(asked, found=found)))
    return made


def with_neighbours(parts: Parts, batch: Sequence[Recipe], sources: Sources, steer: Steering) -> Steering:
    """Steering with the pictures that recipes take from a memory.

    Args:
        parts: of the model.
        batch: B recipes that differ in prompt and seed only.
        sources: has the memory, and the encoder of queries.
        steer: what is asked beside.

    Raises:
        UsageError: as :func:`recalled`; or branches of a composition without a prompt.
    """
    from sfumato.flows.prompts import Neighbours
    from sfumato.flows.steering import Concept

    vectors, asked, words = context_of(parts, batch, sources), batch[0].recall, _has_words(parts, batch)
    if asked is None or vectors is None:
        return steer
    if asked.mode != "and":
        stay = words and (asked.mode == "both" or asked.query is not None)
        return replace(steer, neighbours=Neighbours(vectors, stay, asked.null == "zero"))
    if not words:
        raise UsageError("--mode and composes a prompt with neighbours, and here is no prompt that the model reads")
    return replace(steer, concepts=(Concept("", 1.0, Neighbours(vectors, words=False)), *steer.concepts))


def context_of(parts: Parts | RarmParts, batch: Sequence[Recipe], sources: Sources) -> Tensor | None:
    """The vectors (B, k, D) of the pictures in the contexts of B recipes; None if none are.

    Args:
        parts: of the model.
        batch: recipes that differ in prompt, seed and guidance only.
        sources: has the memory, and the encoder of queries.

    Raises:
        UsageError: as :func:`recalled`.
    """
    batch = recalled(parts, batch, sources)
    asked, words = batch[0].recall, _has_words(parts, batch)
    if asked is None or (asked.mode == "query" and asked.query is None and words):
        return None
    return _context(batch, asked, sources, words)


def _has_words(parts: Parts | RarmParts, batch: Sequence[Recipe]) -> bool:
    """Whether the model reads the prompts as words."""
    return not (parts.neighbours is not None and parts.neighbours.alone) and any(recipe.prompt for recipe in batch)


def _fill(asked: FromMemory, words: bool) -> Fill:
    """What the pictures in the context are: a query that the model reads as words is not among them."""
    if asked.mode == "and" or (asked.mode == "both" and words and asked.query is None):
        return "neighbours"
    return "both" if asked.mode == "both" else "query" if asked.mode == "query" else "neighbours"


def _context(batch: Sequence[Recipe], asked: FromMemory, sources: Sources, words: bool) -> Tensor:
    """The vectors (B, k, D) of the pictures in the contexts."""
    import torch

    memory, fill = sources.memory(asked.memory), _fill(asked, words)
    own = [[name for name, _ in recipe.recall.found] if recipe.recall else [] for recipe in batch]
    entries = memory.vectors(torch.tensor([memory.find(names) for names in own], dtype=torch.int64))
    if fill == "neighbours":
        return entries
    queries = _queries(batch, asked, sources, memory)[:, None]
    return queries if fill == "query" else torch.cat([queries, entries], 1)


def _queries(batch: Sequence[Recipe], asked: FromMemory, sources: Sources, memory: Memory) -> Tensor:
    """The embeddings (B, D) of what is asked for: texts, a picture, or entries that are drawn."""
    import torch

    from sfumato.core.noise import Noise
    from sfumato.flows.retrieve import Unasked, unasked

    encoder = sources.joint
    if encoder.fingerprint != memory.facts.encoder.fingerprint:
        raise UsageError(
            f"the memory '{asked.memory.name}' was made with the encoder '{memory.facts.encoder.name}', and the model "
            "takes embeddings of its own; build the memory with `--encoder` of this model"
        )
    if asked.share is not None:
        noise = Noise([recipe.seed for recipe in batch])
        return unasked(memory, sources.training_vectors, Unasked(asked.share, asked.weighted, asked.count), noise)
    with torch.no_grad():
        if asked.query is None:
            return encoder.words([recipe.prompt for recipe in batch])
        return encoder.pictures(sources.image(asked.query, (encoder.side, encoder.side))).expand(len(batch), -1)
