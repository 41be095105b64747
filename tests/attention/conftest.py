"""Encoders of both kinds of tokens, and whole tiny checkpoints, for tests of edits that speak of words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sfumato.checkpoints.load import Parts, load
from sfumato.encoders.text import TextEncoder, TokenEncoder
from tests.tiny import (
    tiny_bert,
    tiny_bert_tokenizer,
    tiny_clip,
    tiny_clip_tokenizer,
    write_emoji,
    write_sd1,
    write_sdxl,
)


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    return TextEncoder((TokenEncoder(tiny_clip_tokenizer(tmp_path_factory.mktemp("clip")), tiny_clip()),))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> TextEncoder:
    tokenizer = tiny_bert_tokenizer(tmp_path_factory.mktemp("bert"))
    return TextEncoder((TokenEncoder(tokenizer, tiny_bert(), whole_length=False),))


@pytest.fixture(scope="module", params=["clip", "bert"])
def encoder(request: pytest.FixtureRequest) -> TextEncoder:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module", params=[write_sd1, write_sdxl, write_emoji], ids=["sd1", "sdxl", "emoji"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    return load(request.param(tmp_path_factory.mktemp("checkpoint")))
