"""Building a memory: a part a slice, then the index, then memory.json.

    report = build(folder, open_corpus("photos"), Maker(encoder.pictures, facts, Whole()))

Each part is there as a whole or not at all, and a function of its slice alone; memory.json comes last. Whatever stops
a build, the same command goes on with the parts that are there and ends with the same bytes. (The same versions and
number of threads given: the encoder's sums depend on them.)

Paper: Semi-Parametric Neural Image Synthesis (Blattmann et al., 2022), arXiv:2204.11824, section 3.1.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from sfumato.retrieval.corpus import Corpus
from sfumato.retrieval.embed import COPY, Maker, make_part
from sfumato.retrieval.fault import Fault, RetrievalError
from sfumato.retrieval.index import Fill, build_index, open_index
from sfumato.retrieval.memory import Memory, MemoryFacts, read_facts, write_facts
from sfumato.retrieval.merge import add_shard
from sfumato.retrieval.part import Part, write_part
from sfumato.retrieval.plan import PLAN, Plan, changing, claim, missing, read_plan, sweep, write_plan

__all__ = ["Report", "begin", "build", "finish", "plan_of", "renew", "report_of"]

Say = Callable[[str], object]
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Report:
    """What came of a build.

    Args:
        entries: of the memory.
        pictures: that were looked at in this run.
        passed_over: pictures of the corpus that cannot be used, in this run or a former one, in order.
        copies: pictures of the corpus that were there already.
        seconds: that it took.
        bytes: that the memory's folder takes.
    """

    entries: int
    pictures: int
    passed_over: tuple[Fault, ...]
    copies: int
    seconds: float
    bytes: int

    @property
    def faults(self) -> int:
        """The number of pictures that were passed over."""
        return len(self.passed_over)

    @property
    def per_second(self) -> float:
        """Pictures a second of this run."""
        return self.pictures / max(self.seconds, 1e-9)


def build(
    folder: Path,
    corpus: Corpus,
    maker: Maker,
    *,
    recall: float = 1.0,
    advance: Advance = lambda units: None,
    say: Say = lambda text: None,
) -> Report:
    """Build a memory, or go on with a build that was stopped.

    Args:
        folder: of the memory; new, empty, or of the same build.
        corpus: where the pictures come from.
        maker: how they become entries.
        recall: of the index, in (0, 1]; 1 for an exact one.
        advance: told of pictures that are done; all of them are the sum of the slices' counts.
        say: given a sentence for each stage.

    Raises:
        RetrievalError: the folder is of another build or of none, is being changed by another process, or cannot be
            written; no picture can be used; or the index cannot be built.
        ValueError: the encoder gives something else than (B, D).
    """
    begun = time.perf_counter()
    plan, pictures = plan_of(corpus, maker, recall), 0
    with begin(folder, plan, say) as todo:
        advance(sum(part.count for part in corpus.slices) - sum(corpus.slices[number].count for number in todo))
        for number in todo:
            made = make_part(corpus, corpus.slices[number], maker, advance=advance)
            write_part(folder / "parts", plan.names[number], made.vectors, made.entries, made.faults)
            pictures += made.pictures
        facts = finish(folder, plan, say)
        return report_of(folder, facts, plan.names, pictures, time.perf_counter() - begun)


def plan_of(corpus: Corpus, maker: Maker, recall: float, first: int = 0) -> Plan:
    """What is to be made of a corpus.

    Args:
        corpus: where the pictures come from.
        maker: how they become entries.
        recall: of the index.
        first: number of the first part.

    Raises:
        RetrievalError: the corpus is empty.
        ValueError: recall out of range.
    """
    if not 0 < recall <= 1:
        raise ValueError(f"recall must lie in (0, 1], got {recall}")
    if not corpus.slices:
        raise RetrievalError(f"{corpus.name} holds no pictures")
    return Plan(
        corpus=corpus.name,
        digest=corpus.digest,
        encoder=maker.facts,
        patches=maker.patches.name,
        batch=maker.batch,
        slices=len(corpus.slices),
        first=first,
        recall=recall,
    )


@contextmanager
def begin(folder: Path, plan: Plan, say: Say) -> Generator[list[int]]:
    """Keep the folder for a build, and see which slices are still to be made.

    Args:
        folder: of the memory.
        plan: what is to be built.
        say: told what is there already.

    Raises:
        RetrievalError: as :func:`build`.
    """
    claim(folder)
    with changing(folder):
        former = read_plan(folder)
        facts = read_facts(folder) if (folder / "memory.json").exists() else None
        if former is None:
            write_plan(folder, plan)
        elif wrong := plan.differences(former):
            raise RetrievalError(
                f"{folder} is of another build ({wrong}); choose another folder, or delete this one to build it anew"
            )
        if facts is not None and [name for name, _ in facts.parts] != plan.names:
            raise RetrievalError(
                f"the memory {folder} was changed after it was built; `sfumato memory add` and `remove` go on with it"
            )
        sweep(folder, plan.names, facts.index.file if facts and facts.index else None)
        todo = missing(folder, plan)
        if facts is not None and todo:  # the index is of what was lost; without one the memory says what to do
            write_facts(folder, replace(facts, index=None))
        if len(todo) < plan.slices:
            say(f"{plan.slices - len(todo)} of {plan.slices} parts are there already")
        yield todo


def finish(folder: Path, plan: Plan, say: Say, fill: Fill = add_shard) -> MemoryFacts:
    """Index the parts of a plan, and write memory.json; what is as it ought to be stays.

    Args:
        folder: of the memory, with all parts.
        plan: that they are of.
        say: told of the stage.
        fill: puts the vectors into the index.

    Raises:
        RetrievalError: there is no entry, and then nothing is left; or the index cannot be built.
    """
    parts = [Part.open(folder / "parts" / name) for name in plan.names]
    facts = MemoryFacts(
        encoder=plan.encoder,
        patches=plan.patches,
        corpora=(plan.corpus,),
        parts=tuple((part.folder.name, part.count) for part in parts),
        index=None,
    )
    if not facts.entries:
        faults = [fault for part in parts for fault in part.fault_list]
        sweep(folder, ())
        with suppress(OSError):
            (folder / "parts").rmdir()
        (folder / PLAN).unlink()
        raise RetrievalError(_nothing(plan.corpus, faults))
    former, planned = _whole_facts(folder), read_plan(folder)
    if former is not None and planned == plan and replace(former, index=None) == facts:
        return former
    renewed = renew(folder, facts, plan.recall, say, fill)
    write_plan(folder, plan)
    return renewed


def renew(
    folder: Path, facts: MemoryFacts, recall: float, say: Say = lambda text: None, fill: Fill = add_shard
) -> MemoryFacts:
    """Build the index of parts, write memory.json, and delete what that no longer names.

    The index is always built anew: an exact one is as soon written as extended, and one of lists that others were
    added to would not be the one that the same entries give.

    Args:
        folder: of the memory.
        facts: that it is to have; their index does not count.
        recall: of the index, in (0, 1].
        say: told of the stage.
        fill: puts the vectors into the index.

    Returns:
        the facts with the index.

    Raises:
        RetrievalError: a part is damaged, or the index cannot be built.
    """
    say(f"building the index of {facts.entries} entries")
    memory = Memory(folder, facts, tuple(Part.open(folder / "parts" / name) for name, _ in facts.parts))
    index = build_index(folder, memory.stream, recall=recall, fill=fill)
    renewed = replace(facts, index=index)
    write_facts(folder, renewed)
    sweep(folder, [name for name, _ in facts.parts], index.file)
    return renewed


def report_of(folder: Path, facts: MemoryFacts, parts: list[str], pictures: int, seconds: float) -> Report:
    """Count what came of a build.

    Args:
        folder: of the memory.
        facts: of the memory.
        parts: that the build was to make.
        pictures: that were looked at.
        seconds: that it took.

    Raises:
        RetrievalError: a part is damaged.
    """
    found = [fault for name in parts for fault in Part.open(folder / "parts" / name).fault_list]
    passed_over = tuple(fault for fault in found if fault.reason != COPY)
    taken = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Report(facts.entries, pictures, passed_over, len(found) - len(passed_over), seconds, taken)


def _nothing(corpus: str, faults: list[Fault]) -> str:
    """Why there is no memory."""
    if not faults:
        return f"{corpus} holds no pictures"
    more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return f"nothing of {corpus} can be used; {faults[0].source}: {faults[0].reason}{more}"


def _whole_facts(folder: Path) -> MemoryFacts | None:
    """What memory.json says, if there is one and its index can be opened."""
    try:
        facts = read_facts(folder)
        return facts if facts.index and open_index(folder, facts.index) else None
    except RetrievalError:
        return None
