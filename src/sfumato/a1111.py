"""The text in which A1111's web interface writes down how a picture was made, and which many tools read.

    a red apple
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: "v1, pruned"

It is read as untrusted input: no pattern is matched that could take long, and nothing is evaluated.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SAMPLERS", "Written", "join", "short_name", "split"]

SAMPLERS: Mapping[str, str] = {
    "ddim": "DDIM",
    "dpmpp_2m": "DPM++ 2M",
    "euler": "Euler",
    "euler_a": "Euler a",
    "unipc": "UniPC",
    "heun": "Heun",
    "lcm": "LCM",
}
"""Our short names of schedulers, and A1111's."""


@dataclass(frozen=True)
class Written:
    """What such a text holds.

    Args:
        prompt: all before the negative prompt or the settings.
        negative: "" if there is none.
        settings: the words of the last line that begins with "Steps:", name -> value.
        after: text after that line.
    """

    prompt: str
    negative: str
    settings: Mapping[str, str]
    after: str = ""


def short_name(sampler: str) -> str | None:
    """Our name of a sampler of A1111, or None if it has no counterpart here."""
    return {theirs.casefold(): ours for ours, theirs in SAMPLERS.items()}.get(sampler.casefold())


def join(written: Written) -> str:
    """The text; settings without a value are left out."""
    negative = [f"Negative prompt: {written.negative}"] if written.negative else []
    settings = ", ".join(f"{name}: {_quoted(value)}" for name, value in written.settings.items() if value)
    return "\n".join([written.prompt, *negative, settings])


def split(text: str) -> Written:
    """Take such a text apart.

    Raises:
        ValueError: no line begins with "Steps:".
    """
    head, start, line = ("\n" + text).rpartition("\nSteps:")
    if not start:
        raise ValueError("no line begins with 'Steps:'")
    prompt, _, negative = head.partition("\nNegative prompt:")
    line, _, after = line.partition("\n")
    return Written(prompt.strip(), negative.strip(), _settings("Steps:" + line), after.strip())


def _settings(line: str) -> dict[str, str]:
    parts, quoted = [""], False
    for character in line:
        quoted ^= character == '"'
        if character == "," and not quoted:
            parts.append("")
        else:
            parts[-1] += character
    pairs = [part.partition(":") for part in parts]
    return {name.strip(): _unquoted(value.strip()) for name, colon, value in pairs if colon}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if set(value) & set(',:"\n') else value


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
