from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.world.packages import PACKAGES, PackageError, download, find, members


def _archive(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def test_archive_names_are_those_of_npm_pack() -> None:
    assert [package.archive for package in PACKAGES] == [
        "emoji-datasource-google-16.0.0.tgz",
        "emoji-datasource-twitter-16.0.0.tgz",
        "lobehub-fluent-emoji-3d-1.1.0.tgz",
    ]


def test_a_tarball_with_another_hash_is_refused(tmp_path: Path) -> None:
    archive = _archive(tmp_path / PACKAGES[0].archive, {"package/emoji.json": b"[]"})
    with pytest.raises(PackageError, match="SHA-256"):
        find(PACKAGES[0], tmp_path)
    pinned = replace(PACKAGES[0], sha256=hashlib.sha256(archive.read_bytes()).hexdigest())
    assert find(pinned, tmp_path) == archive


@pytest.mark.parametrize("below", ["", "node_modules/"])
def test_an_unpacked_package_must_have_the_pinned_version(tmp_path: Path, below: str) -> None:
    place = tmp_path / f"{below}@lobehub/fluent-emoji-3d"
    place.mkdir(parents=True)
    said = {"name": "@lobehub/fluent-emoji-3d", "version": "1.1.0"}
    (place / "package.json").write_text(json.dumps(said))
    assert find(PACKAGES[2], tmp_path) == place
    (place / "package.json").write_text(json.dumps({**said, "version": "1.2.0"}))
    with pytest.raises(PackageError, match=r"1\.2\.0, but .* 1\.1\.0 is needed"):
        find(PACKAGES[2], tmp_path)


def test_an_absent_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"emoji-datasource-google-16\.0\.0\.tgz"):
        find(PACKAGES[0], tmp_path)


def test_members_writes_nothing_and_follows_no_links(tmp_path: Path) -> None:
    path = _archive(tmp_path / "a.tgz", {"package/wanted": b"1", "package/../../escaped": b"2", "/absolute": b"3"})
    assert list(members(path, lambda name: name == "wanted")) == [("wanted", b"1")]
    assert dict(members(path, lambda _: True))["../../escaped"] == b"2"
    assert [file.name for file in tmp_path.iterdir()] == ["a.tgz"]
    assert not (tmp_path.parent.parent / "escaped").exists()

    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "file").write_bytes(b"4")
    (folder / "link").symlink_to(path)
    assert list(members(folder, lambda _: True)) == [("file", b"4")]


def test_members_refuses_what_is_too_large_or_broken(tmp_path: Path) -> None:
    large = _archive(tmp_path / "large.tgz", {"package/wanted": bytes(4_000_001)})
    with pytest.raises(PackageError, match="4000001 bytes"):
        list(members(large, lambda _: True))
    whole = _archive(tmp_path / "whole.tgz", {"package/wanted": random.Random(0).randbytes(5000)})
    broken = tmp_path / "broken.tgz"
    broken.write_bytes(whole.read_bytes()[:3000])
    with pytest.raises(PackageError, match="cannot be read"):
        list(members(broken, lambda _: True))


def test_download_without_npm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="npm.*is not on the PATH"):
        download(PACKAGES[0], tmp_path)


def test_download_passes_on_npms_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    npm = tmp_path / "npm"
    npm.write_text("#!/bin/sh\necho 'npm error network unreachable' >&2\nexit 1\n")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(PackageError, match="could not download .*network unreachable"):
        download(PACKAGES[0], tmp_path)
