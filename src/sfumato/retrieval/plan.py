"""What is under way in a memory's folder, so that what was stopped goes on and nobody comes between.

.lock          held while the folder is changed; whoever dies lets go of it
plan.json      from what the memory was built, written before its first part
adding.json    likewise, of pictures that are being added to it
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from sfumato.durable import write_synced
from sfumato.retrieval.fault import BROKEN, RetrievalError
from sfumato.retrieval.memory import EncoderFacts
from sfumato.retrieval.part import Part

__all__ = [
    "ADDING",
    "PLAN",
    "Plan",
    "changing",
    "claim",
    "is_whole",
    "missing",
    "number_of",
    "read_plan",
    "sweep",
    "write_plan",
]

PLAN, ADDING = "plan.json", "adding.json"
_LOCK, _LARGEST = ".lock", 1_000_000
_OURS = {_LOCK, f".{PLAN}.part"}


@dataclass(frozen=True)
class Plan:
    """From what parts are made.

    Args:
        corpus: name of the corpus.
        digest: of its listing.
        encoder: that embeds its pictures.
        patches: how they are cut.
        batch: patches that are embedded at a time.
        slices: number of parts.
        first: number of the first of them.
        recall: that the index is to have.
    """

    corpus: str
    digest: str
    encoder: EncoderFacts
    patches: str
    batch: int
    slices: int
    first: int
    recall: float

    @property
    def names(self) -> list[str]:
        """Names of the parts, in the order of the slices."""
        return [f"{number:06d}" for number in range(self.first, self.first + self.slices)]

    def differences(self, other: Plan) -> str:
        """What would make other parts, in words; "" if nothing would."""
        mine, others = asdict(self), asdict(other)
        return ", ".join(
            f"{name} {_said(mine[name])} instead of {_said(others[name])}"
            for name in mine
            if name != "recall" and mine[name] != others[name]
        )


def claim(folder: Path) -> None:
    """Make a folder for a memory, unless a build has made it; one that holds other things is left as it is.

    Raises:
        RetrievalError: it holds other things, is a file, or cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        found = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise RetrievalError(f"cannot make {folder} ({error.strerror}); choose another folder") from error
    strangers = [name for name in found if name not in _OURS]
    if strangers and PLAN not in found:
        raise RetrievalError(
            f"{folder} holds {strangers[0]!r}, which no build has left; choose a new or an empty folder"
        )


@contextmanager
def changing(folder: Path) -> Generator[None]:
    """Keep a memory's folder for oneself, and say in a sentence what the disk has against a change.

    Args:
        folder: that is there.

    Raises:
        RetrievalError: another process is changing it, or the disk is full, gone or not writable.
    """
    try:
        with (folder / _LOCK).open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RetrievalError(f"{folder} is being changed by another process; wait until it ends") from error
            yield
    except OSError as error:
        raise RetrievalError(
            f"cannot go on with {folder} ({error.strerror or error}); what is done is kept, "
            "and the same command goes on from there"
        ) from error


def read_plan(folder: Path, file: str = PLAN) -> Plan | None:
    """What is or was under way; None for nothing.

    Raises:
        RetrievalError: the file is damaged or of another version.
    """
    path = folder / file
    if not path.exists():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is larger than a plan can be")
        table = json.loads(path.read_text(encoding="utf-8"))
        return replace(Plan(**table), encoder=EncoderFacts(**table["encoder"]))
    except (ValueError, KeyError, TypeError) as error:
        raise RetrievalError(f"{folder.name}/{file} is damaged or of another version ({error}); delete it") from error


def write_plan(folder: Path, plan: Plan, file: str = PLAN) -> None:
    """Write down what is under way."""
    write_synced(folder / file, json.dumps(asdict(plan), indent=1).encode())


def missing(folder: Path, plan: Plan) -> list[int]:
    """Slices, counted from 0, whose parts are not there or cannot be read."""
    places = [folder / "parts" / name for name in plan.names]
    return [number for number, place in enumerate(places) if not is_whole(place, plan.encoder.width)]


def is_whole(place: Path, width: int) -> bool:
    """Whether a part is there and can be read from end to end; its hashes are not computed.

    Args:
        place: its folder.
        width: that its embeddings are to have.
    """
    try:
        part = Part.open(place)
        return (part.width, len(part.vectors), len(part.column("id")), len(part.fault_list)) == (
            *(width, part.count, part.count, part.faults),
        )
    except BROKEN:
        return False


def number_of(part: str) -> int:
    """The number that the name of a part begins with."""
    return int(part.partition("-")[0])


def sweep(folder: Path, parts: Collection[str], index: str | None = None) -> None:
    """Delete what a change has left behind, and the plan of an addition.

    Args:
        folder: of the memory.
        parts: names that stay.
        index: file that stays.
    """
    kept = set(parts)
    for place in sorted((folder / "parts").glob("*")):
        if place.name.startswith(".writing-"):
            shutil.rmtree(place)
        elif place.name not in kept and place.name.replace("-", "").isdigit():
            shutil.rmtree(place.rename(place.with_name(f".writing-{place.name}")))
    for pattern in (ADDING, "index-*.faiss", ".index*", ".*.part"):
        for file in folder.glob(pattern):
            if file.name != index and file.is_file():
                file.unlink()


def _said(value: object) -> str:
    return f"{value['name']} ({value['fingerprint']})" if isinstance(value, dict) else str(value)
