"""Building a memory on many machines, or in many processes of one: the same bytes, by way of Ray Data.

The machines share the folder. Each part is made by whichever worker gets its slice, from that slice alone, and appears
as a whole; a worker that dies has its slice made again by another, and a slice that is made twice is made the same.
The lists of an index are learned by the process that calls, filled in shards by tasks, and merged by it; an exact index
and memory.json are its own work.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sfumato.retrieval.build import Report, begin, finish, plan_of, report_of
from sfumato.retrieval.corpus import Corpus
from sfumato.retrieval.embed import Maker, make_part
from sfumato.retrieval.fault import RetrievalError
from sfumato.retrieval.index import Fill
from sfumato.retrieval.merge import add_shard, lists_of, merge_shards, read_shard, write_shard
from sfumato.retrieval.part import Part, blocks_of, write_part
from sfumato.retrieval.plan import Plan, is_whole, missing
from sfumato.retrieval.units import Stream

__all__ = ["Workers", "build_on_cluster", "filled_on_cluster"]

_ROUNDS, _BLOCKS = 3, 4096
_COARSE = ".index-coarse"


@dataclass(frozen=True)
class Workers:
    """Processes that make parts.

    Args:
        count: of them, >= 1.
        cpus: cores that each is given.
        gpus: accelerators that each is given, or a share of one.

    Raises:
        ValueError: fewer than one worker.
    """

    count: int = 2
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"needs one worker or more, got {self.count}")


def build_on_cluster(
    folder: Path,
    corpus: Corpus,
    open_maker: Callable[[], Maker],
    *,
    workers: Workers = Workers(),
    recall: float = 1.0,
    advance: Callable[[int], object] = lambda units: None,
    say: Callable[[str], object] = lambda text: None,
) -> Report:
    """Build a memory as :func:`~sfumato.retrieval.build.build` does, or go on with such a build.

    A cluster that the process is connected to is used; without one, Ray is started on this machine, with its usage
    reports switched off.

    Args:
        folder: of the memory, at the same path for all workers.
        corpus: where the pictures come from; sent to each worker once, and read there.
        open_maker: opens the encoder; called once here and once in each worker, so it must be picklable.
        workers: processes that make parts.
        recall: of the index, in (0, 1]; 1 for an exact one.
        advance: told of pictures that are done, a slice at a time.
        say: given a sentence for each stage.

    Raises:
        RetrievalError: Ray is not installed, parts are still missing after three rounds, or as in ``build``.
        ValueError: recall out of range, or the encoder gives something else than (B, D).
    """
    ray = _ray()
    begun = time.perf_counter()
    plan, pictures = plan_of(corpus, open_maker(), recall), 0
    with begin(folder, plan, say) as todo:
        counts = [part.count for part in corpus.slices]
        advance(sum(counts) - sum(counts[number] for number in todo))
        for _ in range(_ROUNDS):
            if not todo:
                break
            for row in _made(ray, todo, workers, (folder.resolve(), plan, corpus, open_maker)):
                pictures += row["pictures"]
                advance(counts[row["slice"]])
            todo = missing(folder, plan)
        if todo:
            raise RetrievalError(f"{len(todo)} parts of {folder} are still missing; do all workers share that folder?")
        facts = finish(folder, plan, say, filled_on_cluster(folder, plan.names, workers.count))
        return report_of(folder, facts, plan.names, pictures, time.perf_counter() - begun)


class _Worker:
    """Makes parts in a process of its own."""

    def __init__(self, folder: Path, plan: Plan, corpus: Corpus, open_maker: Callable[[], Maker]) -> None:
        self.parts, self.plan, self.corpus, self.maker = folder / "parts", plan, corpus, open_maker()

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["slice"])
        place = self.parts / self.plan.names[number]
        if is_whole(place, self.maker.facts.width):
            return {"slice": number, "pictures": 0}
        made = make_part(self.corpus, self.corpus.slices[number], self.maker)
        try:
            write_part(self.parts, place.name, made.vectors, made.entries, made.faults)
        except OSError:
            if not is_whole(place, self.maker.facts.width):  # else another worker was quicker
                raise
        return {"slice": number, "pictures": made.pictures}


def filled_on_cluster(folder: Path, names: Sequence[str], shards: int) -> Fill:
    """A way of filling an index by tasks of the cluster that the process is connected to.

    Args:
        folder: of the memory, at the same path for all machines; it holds coarse index and shards for a while.
        names: of its parts, in the order of the rows.
        shards: that are filled side by side, >= 1.

    Returns:
        what fills an index of lists in shards, and an exact one, which is no work but copying, here.
    """

    def fill(coarse: Any, stream: Stream) -> Any:
        if lists_of(coarse) is None:
            return add_shard(coarse, stream)
        write_shard(coarse, folder / _COARSE)
        task = _ray().remote(_filled)
        each = -(-len(names) // shards)
        some = [names[start : start + each] for start in range(0, len(names), each)]
        files = [folder / f"{_COARSE}-{number}" for number in range(len(some))]
        _ray().get([task.remote(folder.resolve(), part, file.name) for part, file in zip(some, files, strict=True)])
        merged = merge_shards(coarse, map(read_shard, files))
        for file in (folder / _COARSE, *files):
            file.unlink()
        return merged

    return fill


def _filled(folder: Path, names: Sequence[str], file: str) -> None:
    """Write a shard with the vectors of some parts."""
    parts = tuple(Part.open(folder / "parts" / name) for name in names)
    coarse = read_shard(folder / _COARSE)
    stream = Stream(partial(blocks_of, parts), sum(part.count for part in parts), coarse.d)
    write_shard(add_shard(coarse, stream), folder / file)


def _ray() -> Any:
    try:
        import ray
        import ray.data  # pyright: ignore
    except ImportError as error:
        raise RetrievalError("a build on several workers needs Ray; run `pip install 'sfumato[cluster]'`") from error
    if not ray.is_initialized():
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(include_dashboard=False)
    return ray


def _made(ray: Any, todo: list[int], workers: Workers, arguments: tuple[object, ...]) -> Iterator[dict[str, Any]]:
    """Have workers make slices; what they say of each, as they come."""
    slices = ray.data.from_items([{"slice": number} for number in todo], override_num_blocks=min(len(todo), _BLOCKS))
    slices.context.enable_progress_bars = False
    made = slices.map(
        _Worker,
        fn_constructor_args=arguments,
        compute=ray.data.ActorPoolStrategy(size=workers.count),
        num_cpus=workers.cpus,
        num_gpus=workers.gpus,
    )
    return iter(made.iter_rows())
