"""Streams of scenes: what is held out was not learned."""

import pytest

from sfumato.train.scenes import SceneStream
from sfumato.world.scene import SceneConfig
from sfumato.world.sources import open_world


def stream(count: int, **kinds: object) -> SceneStream:
    return SceneStream(open_world("sample"), 0, count, SceneConfig(**kinds))


def test_no_held_out_picture_is_among_the_learned() -> None:
    learned = stream(300, singles=1, recoloured=0, pairs=0, counts=0, coloured_background=0)
    others = learned.held_out(20)
    plain = SceneStream(others.world, others.seed, 20, others.config).render()
    known = {picture.numpy().tobytes() for picture in learned.render().pictures}
    assert sum(picture.numpy().tobytes() in known for picture in plain.pictures) >= 2, "as drawn, some are"
    assert not any(picture.numpy().tobytes() in known for picture in others.render().pictures)
    assert len(others.render(7)) == 7 and others.facts != learned.facts


def test_what_cannot_be_held_out_is_said() -> None:
    learned = stream(600, singles=1, recoloured=0, pairs=0, counts=0, coloured_background=0, jitter=0, styles=("flat",))
    with pytest.raises(ValueError, match="learn fewer, or hold out fewer"):
        learned.held_out(10).render()
