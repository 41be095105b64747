from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from sfumato.cli.parser import Parser, UsageError
from sfumato.cli.train import add_config_flags, config_of, recipe_names
from tests.cli.conftest import Typed


@dataclass(frozen=True, kw_only=True)
class Config:
    """One field of each kind."""

    steps: int = field(default=3, metadata={"help": "number of steps, 100% of them"})
    rate: float = 1e-3
    name: str = ""
    folder: Path = Path("runs")
    precision: Literal["no", "bf16"] = "no"
    compile: bool = False
    limit: int | None = None
    sizes: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.99)
    labels: tuple[str, ...] = field(default_factory=tuple[str, ...])
    derived: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")


def parsed(*words: str) -> Config:
    parser = Parser(fill=lambda parser: add_config_flags(parser, Config), prog="train")
    return config_of(Config, parser.parse_args(words))


def test_without_flags_the_defaults_of_the_dataclass_hold() -> None:
    assert parsed() == Config()


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("--steps 7", {"steps": 7}),
        ("--steps=-0 --steps 2", {"steps": 2}),
        ("--rate 5e-4", {"rate": 5e-4}),
        ("--name latest --folder a/b", {"name": "latest", "folder": Path("a/b")}),
        ("--precision bf16", {"precision": "bf16"}),
        ("--compile", {"compile": True}),
        ("--compile True", {"compile": True}),
        ("--compile false", {"compile": False}),
        ("--limit 4", {"limit": 4}),
        ("--sizes 4 5 6 --betas 0.5 0.6", {"sizes": (4, 5, 6), "betas": (0.5, 0.6)}),
        ("--labels a b", {"labels": ("a", "b")}),
    ],
)
def test_flags_have_the_types_of_the_fields(words: str, changes: dict[str, Any]) -> None:
    assert parsed(*words.split()) == Config(**changes)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("--step 7", "no flag --step; did you mean '--steps'"),
        ("--steps 2.5", "--steps: needs a whole number, got '2.5'"),
        ("--steps 0", "steps must be at least 1, got 0"),
        ("--rate fast", "--rate: needs a finite number, got 'fast'"),
        ("--rate nan", "--rate: needs a finite number"),
        ("--precision fp8", "--precision: no value 'fp8'"),
        ("--compile perhaps", "--compile: needs true or false"),
        ("--betas 0.5", "--betas: expected 2 arguments"),
        ("--derived 5", "no flag --derived"),
    ],
)
def test_wrong_values_get_a_sentence(words: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence.replace("?", r"\?")):
        parsed(*words.split())


def test_a_field_without_a_flag_is_an_error_of_the_recipe() -> None:
    @dataclass
    class Odd:
        table: dict[str, int] = field(default_factory=dict[str, int])

    with pytest.raises(TypeError, match="the field table has the type"):
        add_config_flags(Parser(prog="x"), Odd)


def test_required_fields_are_required() -> None:
    @dataclass
    class Needs:
        folder: Path

    parser = Parser(prog="x")
    add_config_flags(parser, Needs)
    with pytest.raises(UsageError, match="--folder"):
        parser.parse_args([])
    assert config_of(Needs, argparse.Namespace(folder=Path("a"))) == Needs(Path("a"))


def test_the_recipes_are_those_in_the_folder(sfumato: Typed) -> None:
    assert "codec" in recipe_names()
    told = sfumato("train", "--help")
    for name in recipe_names():
        assert name in told.out
        help_of_recipe = sfumato("train", name, "--help")
        assert help_of_recipe.code == 0
        assert "--max_train_steps" in help_of_recipe.out
        assert "--resume_from_checkpoint" in help_of_recipe.out


def test_a_refused_setting_ends_with_code_2(sfumato: Typed) -> None:
    told = sfumato("train", "codec", "--max_train_steps", 0)
    assert (told.code, told.err) == (2, "sfumato: max_train_steps must be at least 1, got 0\n")
