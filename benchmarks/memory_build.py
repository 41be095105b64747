"""Building a memory, against the method of clip-retrieval on the same encoder and the same files.

Theirs: workers of a DataLoader open and resize with Pillow, the encoder takes a batch at a time, unit vectors are kept
in float16 and written as one array by numpy, keys and captions as parquet. Ours is a whole ``build``: it also checks
and hashes each file, draws its thumbnail, syncs each part to the disk and builds the index.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from measure import compared, finish, flags, interleaved, machine
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from sfumato.checkpoints.joint import load_joint
from sfumato.evaluate.report import Report
from sfumato.machine import usable_threads
from sfumato.retrieval.build import build
from sfumato.retrieval.corpus import open_corpus
from sfumato.retrieval.embed import Maker
from sfumato.retrieval.memory import EncoderFacts, Memory
from sfumato.retrieval.patches import Whole

Encode = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Files(Dataset[dict[str, Any]]):
    """Picture files as a DataLoader's workers read them.

    Args:
        paths: of the files; each has a caption beside it.
        side: that pictures are resized to.
    """

    paths: list[Path]
    side: int

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> dict[str, Any]:
        path = self.paths[row]
        picture = Image.open(path)
        scale = self.side / min(picture.size)
        large = picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC)
        left, top = (large.width - self.side) // 2, (large.height - self.side) // 2
        pixels = np.array(large.crop((left, top, left + self.side, top + self.side)).convert("RGB"))
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 127.5 - 1
        return {"image": image, "key": str(path), "caption": path.with_suffix(".txt").read_text(encoding="utf-8")}


def theirs(paths: list[Path], target: Path, encode: Encode, side: int, numbers: tuple[int, int]) -> Tensor:
    """Embed files as clip-retrieval does; returns the vectors (N, D) that were written."""
    batch, workers = numbers
    loader = DataLoader(Files(paths, side), batch_size=batch, num_workers=workers, prefetch_factor=2)
    vectors: list[Any] = []
    keys: list[str] = []
    captions: list[str] = []
    for found in loader:
        with torch.no_grad():
            embedded = encode(found["image"])
        vectors.append((embedded / embedded.norm(dim=-1, keepdim=True)).numpy().astype(np.float16))
        keys += found["key"]
        captions += found["caption"]
    target.mkdir(parents=True)
    np.save(target / "img_emb_0.npy", np.concatenate(vectors))
    pq.write_table(pa.table({"image_path": keys, "caption": captions}), target / "metadata_0.parquet")
    return torch.from_numpy(np.load(target / "img_emb_0.npy")).float()


def write_pictures(folder: Path, count: int, size: tuple[int, int]) -> list[Path]:
    """Smooth noise as JPEG files with captions, the same each time."""
    random, paths = np.random.default_rng(0), list[Path]()
    for number in range(count):
        rough = random.integers(0, 256, (size[1] // 16, size[0] // 16, 3), np.uint8)
        paths.append(folder / f"{number:06}.jpg")
        Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC).save(paths[-1], quality=90)
        paths[-1].with_suffix(".txt").write_text(f"noise number {number}", encoding="utf-8")
    return paths


def encoder(name: str) -> tuple[Encode, EncoderFacts]:
    """The embedded encoder, or a random one of the shape of CLIP ViT-B/32."""
    if name == "emoji":
        joint = load_joint(name)
        return joint.pictures, EncoderFacts(joint.name, joint.fingerprint, joint.width, joint.side)
    torch.manual_seed(0)
    shape = CLIPVisionConfig(
        hidden_size=768, intermediate_size=3072, num_attention_heads=12, num_hidden_layers=12, patch_size=32
    )
    network = CLIPVisionModelWithProjection(shape).eval()
    return lambda images: network(images).image_embeds, EncoderFacts(name, "random", 512, 224)


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=5)
    parser.add_argument("--pictures", type=int, default=4096, metavar="N", help="files (4096)")
    parser.add_argument("--size", type=int, nargs=2, default=(640, 480), metavar=("W", "H"), help="of each (640 480)")
    parser.add_argument("--encoder", choices=("emoji", "clip-b32"), default="emoji", help="(emoji)")
    parser.add_argument("--batch", type=int, default=256, metavar="N", help="pictures a forward pass (256)")
    parser.add_argument("--workers", type=int, metavar="N", help="threads of ours, processes of theirs (all cores)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads or usable_threads())
    workers = options.workers or usable_threads()
    encode, facts = encoder(options.encoder)
    with tempfile.TemporaryDirectory() as place:
        pictures, ours_at, theirs_at = (Path(place) / name for name in ("pictures", "ours", "theirs"))
        pictures.mkdir()
        paths = write_pictures(pictures, options.pictures, tuple(options.size))
        maker = Maker(encode, facts, Whole(), options.batch, workers)

        def run_ours() -> None:
            shutil.rmtree(ours_at, ignore_errors=True)
            build(ours_at, open_corpus(str(pictures)), maker)

        def run_theirs() -> Tensor:
            shutil.rmtree(theirs_at, ignore_errors=True)
            return theirs(paths, theirs_at, encode, facts.side, (options.batch, workers))

        seconds = interleaved(run_ours, run_theirs, options.repeats)
        found = Memory.open(ours_at).vectors(torch.arange(options.pictures))
        alike = float(torch.cosine_similarity(found, run_theirs()).min())
    numbers = compared(*seconds)
    words = [word for word in sys.argv[1:] if word != "--write"]
    report = Report(
        title=f"Building a memory of {options.pictures} pictures with the encoder {facts.name}",
        command=" ".join(["python benchmarks/memory_build.py", *words]),
        count=options.repeats,
        columns=("ours", "clip-retrieval's method", "ratio"),
        rows={
            "seconds a run (median)": numbers,
            "pictures a second (median)": [*(options.pictures / float(each.median()) for each in seconds), None],
        },
        notes=(
            "The same JPEG files and encoder; ours also checks and hashes files, draws thumbnails, syncs, and indexes.",
            "Runs are interleaved; the interval of the ratio of seconds is the sign test's, over pairs.",
            f"Least cosine between both embeddings of a picture: {alike:.4f}.",
        ),
        settings={
            **{"machine": machine(), "threads": torch.get_num_threads(), "workers": workers},
            **{"batch": options.batch, "picture": "{} x {}".format(*options.size), "side": facts.side},
        },
    )
    finish(report, f"memory_build_{options.encoder}", options.write)


if __name__ == "__main__":
    main()
