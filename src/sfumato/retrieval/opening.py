"""Opening the files of a corpus, which may be links, pipes or devices under any name."""

from __future__ import annotations

import os
import stat
from typing import BinaryIO

__all__ = ["open_inside", "open_regular"]


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading, by a link or not; nothing else is opened and nothing is waited for.

    Raises:
        OSError: there is none, or it may not be read.
        ValueError: it is a pipe, a device or a folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise ValueError("it is no file")
    return open(descriptor, "rb")


def open_inside(root: str, name: str) -> BinaryIO:
    """Open a file of a folder for reading; a link counts if it leads to a file of that folder.

    Args:
        root: the folder, absolute and without links.
        name: below it.

    Raises:
        OSError: there is no such file, or it may not be read.
        ValueError: it is a pipe, a device or a folder, or a link that leads out.
    """
    path = os.path.realpath(os.path.join(root, name))
    if not path.startswith(os.path.join(root, "")):
        raise ValueError("it is a link that leads out of the corpus")
    return open_regular(path)
