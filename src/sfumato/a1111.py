"""The text in which A1111's web interface writes down how a picture was made, and which many tools read.

    a red apple
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 42, Size: 512x512, Model: "v1, pruned"

It is read as untrusted input: no pattern is matched that could take long, and nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["SAMPLERS", "Written", "foreign", "join", "short_name", "split"]

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

_LEVELS = ("karras", "exponential", "polyexponential")
_FOREIGN = re.compile(r"<[a-z]{2,20}:[^<>]{1,200}>|\([^()]{1,200}:[0-9.]{1,8}\)")


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


def short_name(sampler: str) -> tuple[str | None, str]:
    """Our name of a sampler of A1111, None if it has no counterpart here; and the noise levels that its name ends with.

    Until version 1.9 "DPM++ 2M Karras" was DPM++ 2M along the levels of Karras et al.
    """
    known = {theirs.casefold(): ours for ours, theirs in SAMPLERS.items()}
    plain, _, levels = sampler.rpartition(" ")
    if sampler.casefold() not in known and levels.casefold() in _LEVELS:
        return known.get(plain.casefold()), levels
    return known.get(sampler.casefold()), ""


def foreign(prompt: str) -> list[str]:
    """The parts of a prompt that A1111 does not read as words: "(red:1.3)", "<lora:film:0.8>"."""
    return _FOREIGN.findall(prompt)


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
