"""What steering without training does to the embedded model's pictures, as the judge sees it.

One table a method, each over the same number of prompts, with intervals: composition (and, not), classifier and CLIP
guidance, redrawing, following a picture, inpainting. The judge knows real drawings only and never saw the model, its
guide or its picture encoder.
"""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from judged import Judged
from measure import RESULTS
from torch import Tensor

import sfumato
from sfumato.checkpoints.load import load_guide, load_pictures
from sfumato.core.sheet import table
from sfumato.encoders.image import sentences
from sfumato.evaluate.agreement import cosine
from sfumato.evaluate.colour import foreground, shown_colours
from sfumato.evaluate.frechet import frechet_distance
from sfumato.evaluate.intervals import Interval, bootstrap_mean, wilson
from sfumato.evaluate.lessons import WINDOWS, crop
from sfumato.evaluate.precision_recall import precision_recall
from sfumato.evaluate.report import Cell, Report, to_markdown, write_report
from sfumato.evaluate.world_score import real_pictures, reference_of_world
from sfumato.flows.inpaint import Inpaint, inpaint
from sfumato.flows.redraw import Redraw, redraw
from sfumato.flows.steering import Concept
from sfumato.flows.walk import Like
from sfumato.guidance.clip import CleanSimilarity, NoisySimilarity
from sfumato.guidance.ilvr import block_mean
from sfumato.machine import best_dtype, usable_threads
from sfumato.networks.guide import log_probability
from sfumato.world.captions import canonical_caption
from sfumato.world.spec import SceneSpec, single
from sfumato.world.splits import EvaluationPrompt, evaluation_prompts

_BATCH, _SHOWN, _ASKED = 25, 6, 1200
Make = Callable[[slice], Tensor]
Found = tuple[str, dict[str, list[Cell]], dict[str, Tensor], list[str]]
"""Title, rows, pictures of each column to show, and the words beside the rows of the sheet."""


@dataclass(frozen=True)
class Bench(Judged):
    """The model, the judge, and the prompts."""

    model: str
    count: int
    steps: int

    @cached_property
    def parts(self) -> sfumato.checkpoints.parts.Parts:
        return sfumato.load(self.model, getattr(torch, best_dtype()))

    @cached_property
    def guide(self) -> sfumato.networks.guide.Guide:
        guide = load_guide(self.model)
        assert guide is not None, "the model has no guide"
        return guide

    @cached_property
    def pictures(self) -> sfumato.encoders.image.PictureEncoder:
        pictures = load_pictures(self.model)
        assert pictures is not None, "the model has no picture encoder"
        return pictures

    @cached_property
    def prompts(self) -> tuple[EvaluationPrompt, ...]:
        return evaluation_prompts(self.world, _ASKED)

    @cached_property
    def reference(self) -> Tensor:
        return reference_of_world(self.world, self.judge, _ASKED)

    @cached_property
    def singles(self) -> list[EvaluationPrompt]:
        """Prompts of one thing, plain or styled."""
        return [prompt for prompt in self.prompts if prompt.part in ("plain", "styled")][: self.count]

    @cached_property
    def pairs(self) -> list[EvaluationPrompt]:
        """Prompts of one thing and another, wherever they are."""
        found = [prompt for prompt in self.prompts if len(prompt.spec.objects) == 2][: self.count]
        specs = [replace(prompt.spec, relation="and", caption=None) for prompt in found]
        texts = [canonical_caption(self.world, spec) for spec in specs]
        return [replace(prompt, text=text, spec=spec) for prompt, text, spec in zip(found, texts, specs, strict=True)]

    def alone(self, prompt: EvaluationPrompt, number: int) -> str:
        """One of a pair's things, by itself."""
        thing = prompt.spec.objects[number]
        return canonical_caption(self.world, SceneSpec(single(thing.concept, thing.colour), prompt.spec.style))

    def made(self, make: Make, count: int) -> Tensor:
        """Pictures in batches."""
        batches = [make(slice(start, min(start + _BATCH, count))) for start in range(0, count, _BATCH)]
        return torch.cat(batches).float().clamp(-1, 1)

    def generated(
        self, texts: Sequence[str], steer: Callable[[slice], sfumato.Steering], walk: sfumato.Walk | None = None
    ) -> Tensor:
        """Pictures of texts; picture i has seed i."""
        walk = walk or sfumato.Walk(self.steps)
        return self.made(
            lambda part: sfumato.text_to_image(
                self.parts, texts[part], seeds=range(part.start, part.stop), steer=steer(part), walk=walk
            ),
            len(texts),
        )

    def seen(self, images: Tensor, concepts: Sequence[int], *, anywhere: bool = False, among: int = 5) -> Interval:
        """Share of pictures that show a concept: in the whole picture, or in any of the judge's windows."""
        places = list(WINDOWS) if anywhere else ["whole"]
        right = torch.zeros(len(images), dtype=torch.bool)
        for place in places:
            ranked = self.judge.ranked(self.judge.features(crop(images, place)), among)
            right |= (ranked == torch.tensor(concepts)[:, None]).any(1)
        return wilson(int(right.sum()), len(right))

    def distances(self, images: Tensor) -> list[Cell]:
        """Fréchet distance to real scenes, precision and recall."""
        found = self.judge.coordinates(self.judge.features(images))
        balls = precision_recall(self.reference, found)
        return [frechet_distance(self.reference, found), balls.precision, balls.recall]

    def likeness(self, images: Tensor, texts: Sequence[str]) -> Interval:
        """Cosine of pictures and words by the model's encoder of clean pictures."""
        with torch.no_grad():
            vectors = torch.cat([self.pictures(part) for part in images.split(64)])
        return bootstrap_mean(cosine(vectors, sentences(self.parts.text, texts)))


def compose_and(bench: Bench) -> Found:
    """AND of two prompts against one joined prompt."""
    pairs = bench.pairs
    first, second = ([bench.alone(prompt, number) for prompt in pairs] for number in (0, 1))
    joined = [prompt.text for prompt in pairs]

    def both(part: slice) -> sfumato.Steering:
        return sfumato.Steering(concepts=(Concept(tuple(second[part])),))

    columns = {
        "joined prompt": bench.generated(joined, lambda _: sfumato.Steering()),
        "AND": bench.generated(first, both),
        "first alone": bench.generated(first, lambda _: sfumato.Steering()),
    }
    rows = _seen_rows(bench, columns)
    return "One joined prompt against AND of two", rows, columns, joined


def compose_not(bench: Bench) -> Found:
    """NOT takes the second thing of a joined prompt away."""
    pairs = bench.pairs
    joined = [prompt.text for prompt in pairs]
    second = [bench.alone(prompt, 1) for prompt in pairs]

    columns = {"weight 0": bench.generated(joined, lambda _: sfumato.Steering())}
    for weight in (0.5, 1.0):

        def without(part: slice, weight: float = weight) -> sfumato.Steering:
            return sfumato.Steering(concepts=(Concept(tuple(second[part]), -weight),))

        columns[f"weight {weight:g}"] = bench.generated(joined, without)
    return "NOT of the second thing of a joined prompt", _seen_rows(bench, columns), columns, joined


def _seen_rows(bench: Bench, columns: Mapping[str, Tensor]) -> dict[str, list[Cell]]:
    things = [[prompt.spec.objects[number].concept for prompt in bench.pairs] for number in (0, 1)]
    return {
        f"{name} thing seen somewhere, top-5": [bench.seen(images, thing, anywhere=True) for images in columns.values()]
        for name, thing in zip(("first", "second"), things, strict=True)
    }


def classifier(bench: Bench) -> Found:
    """Classifier guidance of the model without a prompt, by the scale."""
    prompts = bench.singles
    concepts = [prompt.spec.objects[0].concept for prompt in prompts]
    names = [bench.world.concepts[concept].name for concept in concepts]
    columns: dict[str, Tensor] = {}
    for scale in (0.0, 1.0, 3.0, 10.0, 30.0):

        def steer(part: slice, scale: float = scale) -> sfumato.Steering:
            score = log_probability(bench.guide, "concept", names[part])
            return sfumato.Steering(guidance=1.0, scores=((score, scale),))

        columns[f"scale {scale:g}"] = bench.generated([""] * len(prompts), steer)
    return "Classifier guidance without a prompt", _class_rows(bench, columns, concepts), columns, names


def _class_rows(bench: Bench, columns: Mapping[str, Tensor], concepts: Sequence[int]) -> dict[str, list[Cell]]:
    far = [bench.distances(images) for images in columns.values()]
    return {
        "concept top-1": [bench.seen(images, concepts, among=1) for images in columns.values()],
        "concept top-5": [bench.seen(images, concepts) for images in columns.values()],
        **{
            name: [each[number] for each in far]
            for number, name in enumerate(("Fréchet distance", "precision", "recall"))
        },
    }


def colour(bench: Bench) -> Found:
    """Classifier guidance towards a colour that the prompt does not name."""
    prompts = bench.singles
    texts = [prompt.text for prompt in prompts]
    words = list(bench.guide.words["colour"])
    asked = [words[number % len(words)] for number in range(len(prompts))]
    columns: dict[str, Tensor] = {}
    for scale in (0.0, 1.0, 3.0, 10.0):

        def steer(part: slice, scale: float = scale) -> sfumato.Steering:
            return sfumato.Steering(scores=((log_probability(bench.guide, "colour", asked[part]), scale),))

        columns[f"scale {scale:g}"] = bench.generated(texts, steer)
    right = {
        name: sum(shown == word for shown, word in zip(shown_colours(images, foreground(images)), asked, strict=True))
        for name, images in columns.items()
    }
    rows: dict[str, list[Cell]] = {"colour asked for": [wilson(right[name], len(asked)) for name in columns]}
    rows |= _class_rows(bench, columns, [prompt.spec.objects[0].concept for prompt in prompts])
    beside = [f"{text}, {word}" for text, word in zip(texts, asked, strict=True)]
    return "Classifier guidance towards a colour that the prompt does not name", rows, columns, beside


def clip(bench: Bench) -> Found:
    """CLIP guidance in both forms against classifier-free guidance."""
    prompts = bench.singles
    texts = [prompt.text for prompt in prompts]
    targets = sentences(bench.parts.text, texts)
    columns: dict[str, Tensor] = {}
    for scale in (1.0, 1.5, 2.0, 4.0):
        columns[f"free {scale:g}"] = bench.generated(texts, lambda _, scale=scale: sfumato.Steering(guidance=scale))
    for scale in (0.3, 1.0, 3.0):

        def noised(part: slice, scale: float = scale) -> sfumato.Steering:
            score = NoisySimilarity(bench.guide.encode, targets[part], bench.guide.scale)
            return sfumato.Steering(guidance=1.0, scores=((score, scale),))

        columns[f"noised {scale:g}"] = bench.generated(texts, noised)
    for scale in (0.3, 1.0):

        def clean(part: slice, scale: float = scale) -> sfumato.Steering:
            score = CleanSimilarity(bench.parts.codec.decode, bench.pictures, targets[part])
            return sfumato.Steering(guidance=1.0, estimate_scores=((score, scale),))

        columns[f"estimate {scale:g}"] = bench.generated(texts, clean)
    rows = _class_rows(bench, columns, [prompt.spec.objects[0].concept for prompt in prompts])
    alike = [None if "estimate" in name else bench.likeness(images, texts) for name, images in columns.items()]
    rows = {"pictures-words cosine": alike, **rows}  # that encoder has guided the estimates: it is no judge of them
    return "CLIP guidance against classifier-free guidance", rows, columns, texts


def redrawing(bench: Bench) -> Found:
    """SDEdit: what is kept of a real picture and what of the prompt is seen, by strength."""
    prompts = bench.singles
    texts, given = [prompt.text for prompt in prompts], _others(bench)
    columns = {"given": given}
    for strength in (0.3, 0.5, 0.7, 0.9, 1.0):
        columns[f"strength {strength:g}"] = bench.made(
            lambda part, strength=strength: redraw(
                bench.parts,
                Redraw(given[part], strength),
                texts[part],
                seeds=range(part.start, part.stop),
                walk=sfumato.Walk(bench.steps),
            ),
            len(texts),
        )
    rows = _class_rows(bench, columns, [prompt.spec.objects[0].concept for prompt in prompts])
    rows = {"distance to the given picture": [_away(images, given) for images in columns.values()], **rows}
    return "Redrawing a picture of another thing", rows, columns, texts


def following(bench: Bench) -> Found:
    """ILVR: how near the blocks of a followed picture are, by the size of the blocks."""
    prompts = bench.singles
    texts, given = [prompt.text for prompt in prompts], _others(bench)
    columns = {"given": given, "not followed": bench.generated(texts, lambda _: sfumato.Steering())}
    for scale in (32, 16, 8):
        columns[f"scale {scale}"] = bench.made(
            lambda part, scale=scale: sfumato.text_to_image(
                bench.parts,
                texts[part],
                seeds=range(part.start, part.stop),
                walk=sfumato.Walk(bench.steps, like=Like(given[part], scale)),
            ),
            len(texts),
        )
    blocks = {
        f"distance of means of {scale} x {scale} blocks": [
            _away(block_mean(images, scale), block_mean(given, scale)) for images in columns.values()
        ]
        for scale in (32, 16, 8)
    }
    rows = _class_rows(bench, columns, [prompt.spec.objects[0].concept for prompt in prompts])
    return "Following the coarse shapes of a picture of another thing", {**blocks, **rows}, columns, texts


def inpainting(bench: Bench) -> Found:
    """Inpainting the right half of real pictures: what is kept, and what is seen."""
    prompts = bench.singles
    texts, real = [prompt.text for prompt in prompts], real_pictures(bench.world, bench.singles)
    mask = torch.zeros(1, 1, 64, 64)
    mask[..., 32:] = 1
    with torch.no_grad():
        codec = torch.cat([bench.parts.codec.decode(bench.parts.codec.encode(part)) for part in real.split(_BATCH)])
    columns = {"real": real, "codec": codec.float().clamp(-1, 1)}
    for name, repaint, paste in (("blend", 1, False), ("repaint 5", 5, False), ("blend, pasted", 1, True)):
        columns[name] = bench.made(
            lambda part, repaint=repaint, paste=paste: inpaint(
                bench.parts,
                Inpaint(real[part], mask, repaint, paste=paste),
                texts[part],
                seeds=range(part.start, part.stop),
                walk=sfumato.Walk(bench.steps),
            ),
            len(texts),
        )
    kept = slice(0, 32)
    rows = _class_rows(bench, columns, [prompt.spec.objects[0].concept for prompt in prompts])
    away = [_away(images[..., kept], real[..., kept]) for images in columns.values()]
    return "Inpainting the right half", {"distance of the kept half": away, **rows}, columns, texts


def _others(bench: Bench) -> Tensor:
    """Real pictures of other things: those of the prompt after each."""
    real = real_pictures(bench.world, bench.singles)
    return real.roll(-1, 0)


def _away(images: Tensor, given: Tensor) -> Interval:
    """Root mean square of the difference, a picture, in [-1, 1] units."""
    return bootstrap_mean((images - given).square().mean((1, 2, 3)).sqrt())


TABLES: Mapping[str, Callable[[Bench], Found]] = {
    "and": compose_and,
    "not": compose_not,
    "classifier": classifier,
    "colour": colour,
    "clip": clip,
    "redraw": redrawing,
    "like": following,
    "inpaint": inpainting,
}


def command_of(name: str, options: argparse.Namespace) -> str:
    """The command that makes one of the tables again."""
    model = "" if options.model == "emoji" else f" --model {shlex.quote(options.model)}"
    return f"python benchmarks/steering.py --only {name} --count {options.count} --steps {options.steps}{model}"


def main() -> None:
    """Measure, print, and write tables and sheets."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=TABLES, action="append", help="one of the tables; repeatable (all)")
    parser.add_argument("--model", default="emoji", metavar="PATH", help="with a guide and a picture encoder (emoji)")
    parser.add_argument("--count", type=int, default=200, metavar="N", help="prompts a table (200)")
    parser.add_argument("--steps", type=int, default=20, metavar="N", help="sampling steps (20)")
    parser.add_argument("--write", action="store_true", help="write tables and sheets to docs/results")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="write the sheets there")
    options = parser.parse_args()
    torch.set_num_threads(usable_threads())
    bench = Bench(options.model, options.count, options.steps)
    for name in options.only or TABLES:
        title, rows, columns, words = TABLES[name](bench)
        report = Report(
            title=title,
            command=command_of(name, options),
            count=len(words),
            columns=tuple(columns),
            rows=rows,
            notes=("Concepts as the judge of the evaluation sees them; picture i has seed i.",),
            settings={"model": Path(options.model).name, "dtype": best_dtype()},
        )
        print(to_markdown(report), flush=True)
        folder = RESULTS if options.write else options.sheets
        if options.write:
            write_report(report, RESULTS, f"steering_{name}")
        if folder is not None:
            images = torch.stack([pictures[:_SHOWN] for pictures in columns.values()], 1).flatten(0, 1)
            table(images, list(columns), words[:_SHOWN]).save(folder / f"steering_{name}.png")


if __name__ == "__main__":
    main()
