"""OpenMoji as a folder of pictures with captions: a memory in a style that no training ever saw.

    python benchmarks/openmoji.py openmoji && sfumato memory build openmoji -o openmoji-memory

Each everyday concept of the emoji world is drawn once, trimmed, centred on white. For evaluation only: the drawings are
CC-BY-SA-4.0 (openmoji.org), and neither they nor what is made of them comes with sfumato. Needs npm or its package in
``--source``, and ``pip install resvg-py``, which turns vector drawings into pictures.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from sfumato.world.names import Concept
from sfumato.world.packages import Package, PackageError, download, find, members
from sfumato.world.pictures import normalise
from sfumato.world.store import World, open_world

OPENMOJI = Package(
    style="openmoji",
    name="openmoji",
    version="17.0.0",
    sha256="55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68",
    pictures=re.compile(r"color/svg/([0-9A-F-]+)\.svg"),
    licence="CC-BY-SA-4.0",
    credit="OpenMoji, the open-source emoji and icon project",
)
_SIDE = 240


def main() -> int:
    """Fetch, draw and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("output", type=Path, metavar="FOLDER", help="gets a PNG a concept, and metadata.jsonl")
    parser.add_argument("--source", type=Path, metavar="DIR", help="holds the npm package; without it npm downloads it")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory() as temporary:
            found = options.source and find(OPENMOJI, options.source)
            count = write(found or download(OPENMOJI, Path(temporary)), open_world(), options.output)
    except (PackageError, ImportError) as error:
        print(f"{parser.prog}: {error}; `pip install resvg-py` for the drawing", file=sys.stderr)
        return 1
    print(f"wrote {count} pictures to {options.output}", file=sys.stderr)
    return 0


def write(package: Path, world: World, folder: Path) -> int:
    """Draw the world's everyday concepts.

    Args:
        package: as ``find`` and ``download`` return it.
        world: whose concepts and names are taken.
        folder: gets the pictures, named by Unicode's numbers.

    Returns:
        how many OpenMoji has.
    """
    wanted = {_plain(concept.codepoints): concept for concept in world.core}
    folder.mkdir(parents=True, exist_ok=True)
    lines: list[str] = []
    for path, content in members(package, lambda path: OPENMOJI.pictures.fullmatch(path) is not None):
        match = OPENMOJI.pictures.fullmatch(path)
        concept = wanted.pop(_plain(match[1]), None) if match else None
        if concept is not None:
            drawn(content).save(folder / f"{concept.codepoints}.png")
            lines.append(json.dumps(told(concept)))
    (folder / "metadata.jsonl").write_text("".join(f"{line}\n" for line in sorted(lines)), encoding="utf-8")
    return len(lines)


def told(concept: Concept) -> dict[str, Any]:
    """What the metadata says of a picture."""
    return {"file_name": f"{concept.codepoints}.png", "text": concept.name}


def drawn(content: bytes) -> Image.Image:
    """A vector drawing as the emoji world has its own: (64, 64), on white."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=content.decode(), width=_SIDE, height=_SIDE, skip_system_fonts=True)
    cut = Image.fromarray(normalise(Image.open(io.BytesIO(bytes(png)))), "RGBA")
    return Image.alpha_composite(Image.new("RGBA", cut.size, "white"), cut).convert("RGB")


def _plain(codes: str) -> str:
    """Code points without the variation selectors and leading zeros, in which the families differ."""
    return "-".join(code.lstrip("0") for code in codes.lower().split("-") if code != "fe0f")


if __name__ == "__main__":
    sys.exit(main())
