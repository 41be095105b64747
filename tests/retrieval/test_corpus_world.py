import pickle
from pathlib import Path

import numpy as np
import pytest

from sfumato.core.image import open_picture
from sfumato.retrieval.corpus import Item, open_corpus
from sfumato.world.scene import compose
from sfumato.world.spec import SceneSpec, single
from sfumato.world.store import STYLES, WorldError, open_world
from tests.retrieval.test_corpus import everything, items


def test_each_concept_comes_once_a_style() -> None:
    world = open_world("sample")
    corpus = open_corpus("world:sample", size=10)
    found = everything(corpus)
    assert [each.source for each in found] == [
        f"{style}/{concept.codepoints}" for style in STYLES for concept in world.core
    ]
    assert corpus.name == "world:sample" and max(part.count for part in corpus.slices) == 10
    assert pickle.loads(pickle.dumps(corpus)).digest == corpus.digest
    apple = items(corpus)["3d/1f34e"]
    assert apple.caption == "a 3d red apple"


def test_pictures_are_the_scenes() -> None:
    world = open_world("sample")
    for number, found in enumerate(everything(open_corpus("world:sample:flat"))):
        scene = compose(world, SceneSpec(single(world.core[number].index), "flat", style_named=True))
        assert isinstance(found, Item) and found.caption == scene.caption
        assert np.array_equal(np.asarray(open_picture(found.content)), scene.image)


def test_styles_can_be_chosen() -> None:
    both, one = open_corpus("world:sample:flat,glossy"), open_corpus("world:sample:flat")
    assert [found.source.split("/")[0] for found in everything(both)] == ["flat"] * 24 + ["glossy"] * 24
    assert set(items(one).items()) < set(items(both).items())
    assert len({both.digest, one.digest, open_corpus("world:sample:flat", size=7).digest}) == 3
    for which in ("world:sample:oil", "world:sample:flat,flat", "world:sample:flat,"):
        with pytest.raises(ValueError, match="the world has the styles glossy, flat, 3d"):
            open_corpus(which)


def test_a_world_that_was_not_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_CACHE", str(tmp_path))
    for which in ("world", "world:3d"):
        with pytest.raises(WorldError, match="sfumato world fetch"):
            open_corpus(which)
