"""What this machine offers a CPU run: cores that may be used, and whether bfloat16 is native.

Two numbers decide the speed of a CPU run. Threads beyond the cores that the process may use slow each other down, so
affinity and the limits of a container count, not the cores of the machine. And bfloat16 is faster than float32 only
where the CPU multiplies it in hardware; elsewhere it is emulated and slower.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

__all__ = ["Dtype", "best_dtype", "bfloat16_is_native", "cgroup_limit", "physical_cores", "usable_threads"]

Dtype = Literal["bfloat16", "float32"]

_NATIVE = {"avx512_bf16", "amx_bf16", "bf16"}
_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_SIBLINGS = Path("/sys/devices/system/cpu")


def best_dtype() -> Dtype:
    """bfloat16 where the CPU has it natively, float32 elsewhere."""
    try:
        described = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "float32"
    return "bfloat16" if bfloat16_is_native(described) else "float32"


def bfloat16_is_native(cpuinfo: str) -> bool:
    """Whether every core multiplies bfloat16 in hardware.

    Args:
        cpuinfo: the text of Linux's ``/proc/cpuinfo``; its "flags" (x86) or "Features" (Arm) lines are read.

    Returns:
        True if each such line names avx512_bf16, amx_bf16 or bf16, and there is one.
    """
    lines = [line.partition(":")[2].split() for line in cpuinfo.splitlines() if line.startswith(("flags", "Features"))]
    return bool(lines) and all(_NATIVE & set(flags) for flags in lines)


def usable_threads() -> int:
    """Threads for one heavy process, >= 1: physical cores in reach, cut to what the container allows."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted) > 0:
        return int(wanted)
    limit = cgroup_limit(_CGROUP)
    cores = physical_cores(_reachable(), _SIBLINGS)
    return cores if limit is None else max(1, min(cores, int(limit)))


def physical_cores(processors: Iterable[int], topology: Path) -> int:
    """Cores behind some logical processors.

    Args:
        processors: numbers of logical processors.
        topology: Linux's ``/sys/devices/system/cpu``; where it says nothing, each processor counts as a core.

    Returns:
        number of different cores, >= 1.
    """
    return max(1, len({_siblings(number, topology) for number in processors}))


def cgroup_limit(root: Path) -> float | None:
    """How many cores a container may keep busy, from cgroup version 2 or 1.

    Args:
        root: where cgroups are mounted, usually ``/sys/fs/cgroup``.

    Returns:
        cores, > 0; None for no limit.
    """
    words = _words(root / "cpu.max") or [
        *_words(root / "cpu" / "cpu.cfs_quota_us"),
        *_words(root / "cpu" / "cpu.cfs_period_us"),
    ]
    if len(words) != 2 or not all(word.isdecimal() and int(word) > 0 for word in words):
        return None
    return int(words[0]) / int(words[1])


def _reachable() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _siblings(number: int, topology: Path) -> str:
    words = _words(topology / f"cpu{number}" / "topology" / "thread_siblings_list")
    return words[0] if words else str(number)


def _words(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").split()
    except (OSError, UnicodeDecodeError):
        return []
