"""Every file that is broken or unsafe is refused by one clear sentence, before anything is allocated."""

from __future__ import annotations

import io
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sfumato.checkpoints.safety import CheckpointError, read_header, read_json, sibling


def written(path: Path, header: Any, data: bytes = b"", length: int | None = None) -> Path:
    """A file with this header, whatever it is, and this data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def tensor(start: int, stop: int, shape: Any = None, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [(stop - start) // 4] if shape is None else shape, "data_offsets": [start, stop]}


def test_a_good_header_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.ones(4, dtype=torch.float16), "empty": torch.zeros(0, 5)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "x.safetensors")
    assert {name: (info.dtype, info.shape) for name, info in header.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("F16", (4,)),
        "empty": ("F32", (0, 5)),
    }


def test_the_suffix_does_not_matter(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(2)}, tmp_path / "weights.bin")
    assert list(read_header(tmp_path / "weights.bin")) == ["a"]


def test_a_header_may_be_640_bytes_long(tmp_path: Path) -> None:
    """Its first two bytes are then those of a pickle."""
    header = json.dumps({"a": tensor(0, 8)}).encode().ljust(640)
    assert written(tmp_path / "x", header, bytes(8)).read_bytes()[:2] == b"\x80\x02"
    assert list(read_header(tmp_path / "x")) == ["a"]


class Mischief:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("ran"),))


def test_pickles_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    modern, legacy = io.BytesIO(), io.BytesIO()
    torch.save({"a": torch.zeros(2)}, modern)
    torch.save({"a": torch.zeros(2)}, legacy, _use_new_zipfile_serialization=False)
    for content in (modern.getvalue(), legacy.getvalue(), pickle.dumps(Mischief())):
        (tmp_path / "model.safetensors").write_bytes(content)
        with pytest.raises(CheckpointError, match="is a pickle under a safetensors name"):
            read_header(tmp_path / "model.safetensors")
    assert not (tmp_path / "ran").exists()


BROKEN: dict[str, tuple[Any, bytes, int | None, str]] = {
    "header of 2^60 bytes": (b"{}", b"", 2**60, "claims a header of 1152921504606846976 bytes"),
    "header longer than the file": (b"{}", b"", 100, "claims a header of 100 bytes; a file of 10 bytes"),
    "header that is no JSON": (b"{]", b"", None, "no valid JSON"),
    "header that is no UTF-8": (b"{\xff\xfe", b"", None, "no valid JSON"),
    "header that is a list": (b"[1]", b"", None, "its header is no JSON object"),
    "header nested without end": (b'{"a":' + b"[" * 100_000, b"", None, "no valid JSON"),
    "name twice": (b'{"a": 1, "a": 2}', b"", None, "a name occurs twice"),
    "entry that is no object": ({"a": 3}, b"", None, "without a dtype, shape and byte range"),
    "entry without offsets": ({"a": {"dtype": "F32", "shape": [1]}}, b"", None, "without a dtype, shape"),
    "negative size": ({"a": tensor(0, 8, [-2])}, bytes(8), None, "without a dtype, shape"),
    "size that is no number": ({"a": tensor(0, 8, ["2"])}, bytes(8), None, "without a dtype, shape"),
    "size that is true": ({"a": tensor(0, 4, [True])}, bytes(4), None, "without a dtype, shape"),
    "three offsets": ({"a": {**tensor(0, 8), "data_offsets": [0, 8, 9]}}, bytes(8), None, "without a dtype, shape"),
    "metadata that are no words": ({"__metadata__": {"a": 1}}, b"", None, "__metadata__ that are not words"),
    "metadata that are a list": ({"__metadata__": [1]}, b"", None, "__metadata__ that are not words"),
    "unknown dtype": ({"a": tensor(0, 8, dtype="Q7")}, bytes(8), None, "unknown dtype 'Q7'"),
    "shape that does not fit": ({"a": tensor(0, 8, [3])}, bytes(8), None, "8 bytes, but F32 \\[3\\] takes 12"),
    "shape that would overflow": ({"a": tensor(0, 8, [2**62, 4])}, bytes(8), None, "takes 73786976294838206464"),
    "size of 4000 digits": ({"a": tensor(0, 8, [10**3999, 10**3999])}, bytes(8), None, "without a dtype, shape"),
    "offset of 4000 digits": ({"a": tensor(0, 10**3999, [2])}, bytes(8), None, "without a dtype, shape"),
    "17 sizes": ({"a": tensor(0, 8, [2] + [1] * 16)}, bytes(8), None, "without a dtype, shape"),
    "backward range": ({"a": tensor(8, 0, [2])}, bytes(8), None, "gives tensor 'a' -8 bytes"),
    "overlap": ({"a": tensor(0, 8), "b": tensor(4, 12)}, bytes(12), None, "'a' and 'b' overlap"),
    "same range twice": ({"a": tensor(0, 8), "b": tensor(0, 8)}, bytes(8), None, "'a' and 'b' overlap"),
    "gap": ({"a": tensor(0, 8), "b": tensor(12, 16)}, bytes(16), None, "'a' and 'b' leave a gap"),
    "gap at the start": ({"a": tensor(4, 12)}, bytes(12), None, "leave a gap"),
    "data cut short": ({"a": tensor(0, 8)}, bytes(4), None, "is cut short"),
    "data left over": ({"a": tensor(0, 8)}, bytes(9), None, "bytes that belong to no tensor"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_headers(tmp_path: Path, case: str) -> None:
    header, data, length, sentence = BROKEN[case]
    with pytest.raises(CheckpointError, match=sentence) as raised:
        read_header(written(tmp_path / "model.safetensors", header, data, length))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"{}", b"\0" * 8])
def test_files_too_short(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CheckpointError, match="is no safetensors file: it has only"):
        read_header(tmp_path / "x")


def test_no_header_is_read_beyond_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write((200_000_000).to_bytes(8, "little") + b"{")
        file.truncate(300_000_000)
    with pytest.raises(CheckpointError, match="may have at most 100000000"):
        read_header(path)


@pytest.mark.parametrize(
    "name", ["../x", "../../x", "/etc/passwd", "a/b", "..", ".", "", "C:\\x", "..\\x", "a\0b", 7, None, ["x"]]
)
def test_names_that_lead_elsewhere(tmp_path: Path, name: Any) -> None:
    (tmp_path / "x").touch()
    (tmp_path / "inner").mkdir()
    with pytest.raises(CheckpointError, match="does not lie in its own folder"):
        sibling(tmp_path / "inner" / "index.json", name)


def test_a_sibling_is_found_or_missing(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").touch()
    assert sibling(tmp_path / "index.json", "x.safetensors") == tmp_path / "x.safetensors"
    with pytest.raises(CheckpointError, match="names the file 'y.safetensors', which is missing"):
        sibling(tmp_path / "index.json", "y.safetensors")


def test_settings(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(CheckpointError, match="config.json is missing"):
        read_json(path)
    for content, sentence in {"[]": "is no JSON object", "{": "is no valid JSON", '{"a": 1, "a": 2}': "twice"}.items():
        path.write_text(content)
        with pytest.raises(CheckpointError, match=sentence):
            read_json(path)
    path.write_text('{"a": 1}')
    assert read_json(path) == {"a": 1}
