"""What benchmarks that judge pictures begin with: the world, and the judge of its pictures."""

from __future__ import annotations

import sys
from functools import cached_property

from sfumato.evaluate.judge import Judge
from sfumato.evaluate.train_judge import JudgeConfig, judge_of_world
from sfumato.world.store import World, open_world

__all__ = ["Judged"]


class Judged:
    """A benchmark that has the world and its judge, each loaded when it is first asked for."""

    @cached_property
    def world(self) -> World:
        """The emoji pictures of the user's cache."""
        return open_world()

    @cached_property
    def judge(self) -> Judge:
        """Who says what pictures show; fitted once, for minutes, and kept in the cache."""
        return judge_of_world(self.world, JudgeConfig(), lambda text: print(text, file=sys.stderr))
