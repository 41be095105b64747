from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sfumato.cli.models import DEFAULT, Model, ModelError, find, installed
from sfumato.cli.parser import UsageError
from tests.cli.conftest import Typed

CARD = "---\nlicense: apache-2.0\n---\n# A tiny model\n\nIt is made of chance.\n"


@pytest.fixture
def place(emoji: Path, tmp_path: Path) -> Path:
    """A folder of installed models: the default one, and what is none."""
    shutil.copytree(emoji, tmp_path / "checkpoints" / DEFAULT)
    (tmp_path / "checkpoints" / "none").mkdir()
    (tmp_path / "checkpoints" / DEFAULT / "README.md").write_text(CARD)
    return tmp_path / "checkpoints"


def test_installed_models_are_folders_with_an_index(place: Path) -> None:
    assert [model.name for model in installed(place)] == [DEFAULT]
    assert find(None, place) == find(DEFAULT, place) == Model(DEFAULT, place / DEFAULT)
    assert installed(place)[0].card == CARD
    assert installed(place)[0].size > 10_000


def test_any_folder_of_a_model_will_do(place: Path, sd1: Path) -> None:
    assert find(str(sd1), place) == Model("sd1", sd1)


def test_what_is_not_there(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model or folder 'emojy'; did you mean 'emoji'"):
        find("emojy", place)
    with pytest.raises(ModelError, match="holds no model"):
        find(str(place / "none"), place)
    with pytest.raises(ModelError, match="'emoji' is not installed; give a folder"):
        find(None, tmp_path / "nowhere")


def test_a_fingerprint_tells_models_apart(sd1: Path, emoji: Path, tmp_path: Path) -> None:
    mark = Model("a", sd1).fingerprint
    assert len(mark) == 16 and int(mark, 16) >= 0
    assert mark != Model("a", emoji).fingerprint
    copy = shutil.copytree(sd1, tmp_path / "copy")
    (copy / "README.md").write_text("a card changes nothing")
    assert Model("b", copy).fingerprint == mark
    weights = next((copy / "unet").glob("*.safetensors"))
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert Model("b", copy).fingerprint != mark


def test_the_command_lists_what_is_there(sfumato: Typed) -> None:
    told = sfumato("models")
    assert told.code == 0 and told.out
    listed = sfumato("models", "--json")
    assert [facts["name"] for facts in listed.objects] == [model.name for model in installed()]
    for facts in listed.objects:
        assert facts["name"] in told.out and facts["fingerprint"] in told.out
