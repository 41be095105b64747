"""Score a checkpoint on the fixed prompts of the emoji world, beside the two ceilings.

Generated pictures, real pictures of the same prompts, and the codec's reconstructions of those get the same questions
from the same judge. No generator with this codec can be expected to do better than the reconstructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.checkpoints.load import load, load_pictures
from sfumato.checkpoints.parts import Parts
from sfumato.core.image import resize
from sfumato.core.sheet import grid
from sfumato.encoders.image import sentences
from sfumato.evaluate.agreement import cosine
from sfumato.evaluate.judge import Judge
from sfumato.evaluate.report import Cell, Report, write_report
from sfumato.evaluate.train_judge import JudgeConfig, judge_of_world
from sfumato.evaluate.world_score import Agreement, real_pictures, reference_of_world, score, score_other_words
from sfumato.flows.steering import Steering
from sfumato.flows.text_to_image import text_to_image
from sfumato.flows.walk import Walk
from sfumato.world.other_words import other_words
from sfumato.world.splits import evaluation_prompts
from sfumato.world.store import World, open_world

__all__ = ["EvaluationSettings", "evaluate_model", "generated_pictures", "picture_agreement"]

_SHOWN = 60


@dataclass(frozen=True)
class EvaluationSettings:
    """How pictures are made and judged.

    Args:
        count: the first so many of the fixed prompts, >= 20.
        reference: real scenes of further prompts that the sets are compared with, >= 20.
        steer: guidance and all else that is asked of the denoiser.
        follow: adds to it what depends on a batch, from its prompts and seeds, such as their likeness; None: nothing.
        walk: steps and scheduler.
        seed: of the first picture; picture i has seed + i.
        batch: pictures made at once; memory and speed only.
        max_rows: most rows of one forward pass; None is no limit.
        dtype: weights' dtype while generating; None for float32.

    Raises:
        ValueError: count, reference or batch out of range.
    """

    count: int = 500
    reference: int = 2000
    steer: Steering = Steering()
    follow: Callable[[Parts, Sequence[str], Sequence[int], Steering], Steering] | None = None
    walk: Walk = Walk()
    seed: int = 0
    batch: int = 25
    max_rows: int | None = None
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if min(self.count, self.reference) < 20 or self.batch < 1:
            raise ValueError("needs at least 20 prompts, 20 reference scenes and a batch of 1")


def evaluate_model(
    name_or_path: str | Path,
    folder: Path,
    settings: EvaluationSettings = EvaluationSettings(),
    *,
    world: World | None = None,
    judge: JudgeConfig | None = None,
    command: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """Scores a checkpoint and writes ``evaluation.md``, ``evaluation.json`` and two sheets of pictures into a folder.

    Args:
        name_or_path: "emoji", or a folder in diffusers' layout; pictures of another size are scaled to 64 x 64.
        folder: made if missing; former results in it are replaced.
        settings: how pictures are made.
        world: where prompts and real pictures come from; the user's cache if None.
        judge: how the judge is fitted, if the cache does not hold it yet (minutes); None for the defaults.
        command: the command line to print into the report; a Python call if empty.
        say: is told each step in a few words.

    Returns:
        The table, with columns "generated", "codec" and "real".

    Raises:
        CheckpointError: the checkpoint cannot be loaded.
        WorldError: the emoji pictures are not there.
        WeightsError: the extra "judge" is not installed.
        ValueError: the world is too small for so many prompts.
    """
    known = open_world() if world is None else world
    parts = load(name_or_path, settings.dtype)
    parts = replace(parts, model=replace(parts.model, max_rows=settings.max_rows))
    agreement = picture_agreement(parts, name_or_path)
    knower = judge_of_world(known, judge or JudgeConfig(), say)
    prompts = evaluation_prompts(known, settings.count)
    real = real_pictures(known, prompts)
    sources = {
        "generated": generated_pictures(parts, [prompt.text for prompt in prompts], settings, say),
        "codec": _reconstructed(parts, real, settings.batch),
        "real": real,
    }
    others = other_words(known)
    of_others = generated_pictures(parts, [prompt.text for prompt in others], settings, say)
    say("judging")
    reference = reference_of_world(known, knower, settings.count, settings.reference)
    scores = [score(images, prompts, knower, reference, agreement) for images in sources.values()]
    rows: dict[str, list[Cell]] = {measure: [column[measure] for column in scores] for measure in scores[0]}
    for measure, share in score_other_words(of_others, others, knower).items():
        rows[measure] = [share, None, None]
    report = Report(
        title=f"{parts.name} on {settings.count} prompts of the emoji world",
        command=command or f"evaluate_model({str(name_or_path)!r}, ..., {settings})",
        count=settings.count,
        columns=tuple(sources),
        rows=rows,
        notes=_notes(knower, len(reference), len(others)),
        settings=_settings(known, settings),
    )
    write_report(report, folder, "evaluation")
    for name, pictures, shown in (
        ("evaluation", sources["generated"], prompts),
        ("other_words", of_others, others),
    ):
        texts = [prompt.text for prompt in shown[:_SHOWN]]
        grid(pictures[:_SHOWN], columns=10, labels=texts).save(folder / f"{name}.png")
    return report


def generated_pictures(
    parts: Parts,
    texts: Sequence[str],
    settings: EvaluationSettings,
    say: Callable[[str], None] = lambda _: None,
) -> Tensor:
    """The checkpoint's pictures of prompts, (N, 3, 64, 64) in [-1, 1]; picture i has seed ``settings.seed + i``."""
    made: list[Tensor] = []
    for start in range(0, len(texts), settings.batch):
        some = texts[start : start + settings.batch]
        seeds = [settings.seed + start + number for number in range(len(some))]
        say(f"generating {start + len(some)} of {len(texts)}")
        steer = settings.steer if settings.follow is None else settings.follow(parts, some, seeds, settings.steer)
        made.append(text_to_image(parts, some, seeds=seeds, steer=steer, walk=settings.walk))
    return resize(torch.cat(made).cpu(), 64, 64).clamp(-1, 1)


def _reconstructed(parts: Parts, images: Tensor, batch: int) -> Tensor:
    codec, device = parts.codec, parts.device
    with torch.no_grad():
        return torch.cat([codec.decode(codec.encode(some.to(device))).cpu() for some in images.split(batch)])


def picture_agreement(parts: Parts, name_or_path: str | Path) -> Agreement | None:
    """The pictures-and-words cosine of a checkpoint that brings a picture encoder.

    Args:
        parts: gives the text side.
        name_or_path: the checkpoint.

    Returns:
        The function, or None if it brings none.
    """
    encoder = load_pictures(name_or_path)
    if encoder is None:
        return None

    def agreement(images: Tensor, texts: Sequence[str]) -> Tensor:
        with torch.no_grad():
            vectors = torch.cat([encoder(part) for part in images.split(64)])
        return cosine(vectors, sentences(parts.text, texts).cpu())

    return agreement


def _notes(judge: Judge, reference: int, others: int) -> tuple[str, ...]:
    own = ", ".join(f"{name} {found.value:.3f}" for name, found in judge.accuracy.items())
    return (
        f"The judge on real scenes that it was not fitted to: {own}.",
        "Concepts are told apart among all "
        f"{len(judge.concepts)} core concepts, by ImageNet features of EfficientNet-Lite0 "
        f"(pictures scaled to {judge.settings['size']} pixels, antialiased bicubic) and a linear discriminant; "
        "colours are measured on pixels.",
        f"Fréchet and kernel distance, precision and recall (k = 3): on {judge.axes.shape[1]} principal axes of the "
        f"pooled features, against {reference} real scenes of other prompts, no two alike and none like a scored one.",
        "codec: real pictures encoded and decoded; real: real pictures of the same prompts.",
        f"other words: {others} prompts whose noun is no concept's name, such as a puppy; right is any concept that is "
        "meant (`sfumato.world.other_words`).",
        "The pictures-words cosine uses the checkpoint's own encoder, if it has one: circular where that encoder "
        "conditions or guides.",
    )


def _settings(world: World, settings: EvaluationSettings) -> dict[str, str | int | float]:
    steer, walk = settings.steer, settings.walk
    further = {
        "further prompts": ", ".join(f"{each.prompt}: {each.weight:g}" for each in steer.concepts),
        "perturbed attention": steer.perturb,
        "projected": "" if steer.project is None else f"{steer.project:g}",
        "threshold": str(steer.threshold or ""),
        "experts": ", ".join(f"{each.start:g} to {each.stop:g}" for each in steer.experts),
        "edits": ", ".join(type(each).__name__ for each in steer.edits),
        "excited": "" if walk.excite is None else ", ".join(map(str, walk.excite.phrases)),
        "langevin": walk.langevin,
    }
    return {
        "steps": walk.steps,
        "guidance": str(steer.guidance),
        "scheduler": walk.scheduler,
        "negative": steer.negative or "none",
        "guidance interval": "{:g}:{:g}".format(*(steer.interval or (0, 1))),
        "rescale": steer.rescale,
        "seeds": f"{settings.seed}..{settings.seed + settings.count - 1}",
        "dtype": str(settings.dtype or torch.float32).removeprefix("torch."),
        "world": world.digest[:16],
        **{name: value for name, value in further.items() if value},
    }
