from __future__ import annotations

from pathlib import Path

import pytest

from sfumato.machine import best_dtype, bfloat16_is_native, cgroup_limit, physical_cores, usable_threads


@pytest.mark.parametrize(
    ("text", "native"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16\nflags\t\t: fpu avx2 avx512_bf16\n", True),
        ("flags : fpu amx_bf16", True),
        ("Features : fp asimd bf16 i8mm", True),
        ("flags : fpu avx2", False),
        ("flags : avx512_bf16\nflags : avx2", False),
        ("model name : avx512_bf16", False),
        ("", False),
    ],
)
def test_native_bfloat16_is_read_from_the_flags(text: str, native: bool) -> None:
    assert bfloat16_is_native(text) is native


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "garbage"}, None),
        ({}, None),
    ],
)
def test_cgroup_limit(tmp_path: Path, files: dict[str, str], limit: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cgroup_limit(tmp_path) == limit


def test_threads_of_one_core_count_once(tmp_path: Path) -> None:
    for number, siblings in enumerate(["0,2", "1,3", "0,2", "1,3"]):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(siblings + "\n")
    assert physical_cores([0, 1, 2, 3], tmp_path) == 2
    assert physical_cores([1, 3], tmp_path) == 1
    assert physical_cores([0, 1, 2], tmp_path / "nowhere") == 3
    assert physical_cores([], tmp_path) == 1


def test_the_user_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usable_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "nonsense")
    assert usable_threads() >= 1
    assert best_dtype() in ("float32", "bfloat16")
