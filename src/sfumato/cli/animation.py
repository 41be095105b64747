"""Pictures one after another as a GIF or an MP4 file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from sfumato.cli.parser import UsageError

__all__ = ["animated", "check_mp4"]


def animated(paths: Sequence[Path], kind: str, fps: float) -> bytes:
    """An animation of picture files of one size.

    Args:
        paths: at least one, in order.
        kind: "gif", which repeats for ever and has 256 colours a frame; or "mp4", H.264.
        fps: pictures a second.

    Returns:
        the bytes of the file.

    Raises:
        UsageError: "mp4" without the extra ``video``.
    """
    from sfumato.core.image import open_picture

    frames = [open_picture(path) for path in paths]
    return _gif(frames, fps) if kind == "gif" else _mp4(frames, fps)


def check_mp4() -> Any:
    """The library that writes MP4.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import av  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise UsageError(
            "--as mp4 needs the extra 'video' (pip install 'sfumato[video]'); --as gif does not"
        ) from error
    return av


def _gif(frames: Sequence[Any], fps: float) -> bytes:
    first, *others = [frame.quantize(256) for frame in frames]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=round(1000 / fps), loop=0, disposal=1)
    return buffer.getvalue()


def _mp4(frames: Sequence[Any], fps: float) -> bytes:
    """H.264 with the usual chroma, which needs even sides: an odd one loses its last line of pixels."""
    av, buffer = check_mp4(), io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000), options={"crf": "12"})
        width, height = frames[0].size
        stream.width, stream.height, stream.pix_fmt = width - width % 2, height - height % 2, "yuv420p"
        for frame in frames:
            even = frame.crop((0, 0, stream.width, stream.height))
            container.mux(stream.encode(av.VideoFrame.from_image(even)))
        container.mux(stream.encode())
    return buffer.getvalue()
