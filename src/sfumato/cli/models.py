"""``sfumato models``: what is installed; and finding the model that another command names."""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.progress import emit
from sfumato.cli.words import did_you_mean, printable

__all__ = ["DEFAULT", "Model", "ModelError", "add_flags", "find", "installed", "run"]

DEFAULT = "emoji"

_INSTALLED = Path(__file__).parents[1] / "checkpoints"
_INDEX = "model_index.json"
_SAMPLES, _SAMPLE_BYTES = 16, 4096


class ModelError(Exception):
    """There is no model to use; the message is a sentence that says what to do."""


@dataclass(frozen=True)
class Model:
    """A folder in diffusers' layout.

    Args:
        name: what it is called in recipes; never a path.
        folder: where it is.
    """

    name: str
    folder: Path

    @cached_property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over all file names and sizes, all settings, and samples of all weights.

        It tells one training from another in a moment; it is no proof against forgery.
        """
        digest = hashlib.sha256()
        for path in self._files:
            digest.update(f"{path.relative_to(self.folder).as_posix()}\0{path.stat().st_size}\0".encode())
            digest.update(_sampled(path) if path.suffix == ".safetensors" else path.read_bytes())
        return digest.hexdigest()[:16]

    @property
    def draws_codes(self) -> bool:
        """Whether it draws codes one after the other, in place of denoising."""
        from sfumato.checkpoints.safety import read_json

        return read_json(self.folder / _INDEX).get("_class_name") == "Rarm"

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self._files)

    @property
    def card(self) -> str:
        """The text of its model card; "" if it has none."""
        path = self.folder / "README.md"
        return path.read_text(encoding="utf-8", errors="replace")[:100_000] if path.is_file() else ""

    @property
    def _files(self) -> list[Path]:
        parts = [path for path in self.folder.glob("*/*") if path.suffix in (".json", ".safetensors", ".txt")]
        return sorted(path for path in (self.folder / _INDEX, *parts) if path.is_file())


def installed(place: Path = _INSTALLED) -> list[Model]:
    """The models that came with the package, by name.

    Args:
        place: the folder that holds their folders.
    """
    return [Model(path.parent.name, path.parent) for path in sorted(place.glob(f"*/{_INDEX}"))]


def find(wanted: str | None, place: Path = _INSTALLED) -> Model:
    """The model of a name or folder.

    Args:
        wanted: name of an installed model, or a folder; None is the default one.
        place: the folder that holds the installed ones.

    Raises:
        ModelError: none was asked for, and none is installed; or the folder holds no model.
        UsageError: there is no such name or folder.
    """
    there = {model.name: model for model in installed(place)}
    name = DEFAULT if wanted is None else wanted
    if name in there:
        return there[name]
    if wanted is None or wanted == DEFAULT:
        raise ModelError(f"the model '{DEFAULT}' is not installed; give a folder in diffusers' layout by --model")
    folder = Path(wanted).expanduser()
    if not wanted.isascii() and wanted != wanted.encode(errors="replace").decode():
        raise UsageError("the model's folder has a name that is no text in UTF-8; rename it")
    if not folder.is_dir():
        raise UsageError(f"no model or folder '{wanted}'{did_you_mean(wanted, there)}")
    if not (folder / _INDEX).is_file():
        raise ModelError(f"the folder {wanted} holds no model: it has no {_INDEX}")
    return Model(folder.resolve().name, folder)


def add_flags(parser: Parser) -> None:
    """The flags of ``sfumato models``."""
    parser.add_argument("--json", action="store_true", help="one JSON object per model on stdout")
    parser.add_argument("--quiet", action="store_true", help="nothing on stderr but errors")
    parser.add_argument("--debug", action="store_true", help="show tracebacks and all warnings")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """List what is installed."""
    models = installed()
    for model in models:
        if options.json:
            emit(_facts(model))
        else:
            print(_described(model))
    if not models and not options.json:
        print("No model is installed; `sfumato generate --model FOLDER` takes any folder in diffusers' layout.")
    return 0


def _facts(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "default": model.name == DEFAULT,
        "folder": str(model.folder),
        "fingerprint": model.fingerprint,
        "bytes": model.size,
        "card": model.card,
    }


def _described(model: Model) -> str:
    default = ", the default" if model.name == DEFAULT else ""
    head = f"{model.name} ({model.size / 1e6:.1f} MB, fingerprint {model.fingerprint}{default})"
    lines = _summary(model.card) or ["without a model card"]
    return "\n".join([head, f"  {model.folder}", *(f"  {printable(line)}" for line in lines), ""])


def _summary(card: str) -> list[str]:
    """The card's headings, paragraphs and tables, without its preamble, up to 20 lines."""
    body = card.partition("---\n")[2].partition("---\n")[2] if card.startswith("---\n") else card
    return [line.rstrip() for line in body.splitlines() if line.strip() and not line.startswith("```")][:20]


def _sampled(path: Path) -> bytes:
    """The beginning of a file of weights, which describes them, and evenly spread pieces of the rest."""
    length = path.stat().st_size
    with path.open("rb") as file:
        pieces: list[bytes] = []
        for number in range(_SAMPLES + 1):
            file.seek(number * max(0, length - _SAMPLE_BYTES) // _SAMPLES)
            pieces.append(file.read(_SAMPLE_BYTES))
    return b"".join(pieces)
