"""What attention edits cost: guidance with each edit, and with all at once, against guidance without.

Random weights of Stable Diffusion 1.5's shape, one forward pass of all rows. Prompt-to-prompt needs a source beside
its rewrite, so it and all edits together are compared with plain guidance of the same two pictures.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from measure import compared, finish, flags, interleaved, machine, peak_of_child, peak_of_this
from networks import EMBEDDED, Size, full_at
from torch import Tensor

from sfumato.attention.alignment import Alignment
from sfumato.attention.contexts import AddedStates
from sfumato.attention.paint_with_words import Painting
from sfumato.attention.prompt_to_prompt import CrossInjection, SelfInjection
from sfumato.core.attention import AttentionEdit
from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.evaluate.report import Report
from sfumato.guidance.classifier_free import classifier_free
from sfumato.machine import usable_threads
from sfumato.networks.unet import UNetNetwork
from sfumato.samplers.schedule import prediction_of, schedule_of
from sfumato.train import embedded

GUIDANCE = 7.5


@dataclass(frozen=True)
class Case:
    """What is measured.

    Args:
        pictures: that are made together.
        edits: of the text branch.
        limit: that the ratio shall not exceed.
    """

    pictures: int
    edits: Callable[[Size], tuple[AttentionEdit, ...]]
    limit: float


def structure(size: Size, count: int = 1) -> AttentionEdit:
    """Averaged values of phrases."""
    return AddedStates(values=0.1 * size.text(count, 50))


def paint(size: Size, count: int = 1) -> AttentionEdit:
    """Two phrases, painted left and right."""
    masks = torch.zeros(count, 2, 64, 64)
    masks[:, 0, :, :32], masks[:, 1, :, 32:] = 1, 1
    weights = torch.zeros(count, 2, size.tokens[0])
    weights[:, 0, 1:4], weights[:, 1, 5:8] = 1, 1
    return Painting(masks, weights)


def rewrites(size: Size) -> tuple[AttentionEdit, ...]:
    """A word replaced in the second picture, in all steps."""
    length = size.tokens[0]
    alignment = Alignment(((0, 1),), torch.eye(length)[None], torch.ones(1, length, dtype=torch.bool))
    return CrossInjection(alignment, 1.0), SelfInjection(((0, 1),), 1.0)


CASES = {
    "structure": Case(1, lambda size: (structure(size),), 1.02),
    "paint-with-words": Case(1, lambda size: (paint(size),), 1.10),
    "prompt-to-prompt": Case(2, rewrites, 1.25),
    "all three": Case(2, lambda size: (structure(size, 2), paint(size, 2), *rewrites(size)), 1.35),
}


def loop(size: Size, unet: Any, count: int, edits: tuple[AttentionEdit, ...], steps: int) -> Callable[[], Tensor]:
    """Guidance of some pictures."""
    scheduler = embedded.SCHEDULER
    model = DenoisingModel(UNetNetwork(unet, prediction_of(scheduler)), schedule_of(scheduler))
    text, none = Branch(Condition(size.text(count, 0)), edits), Branch(Condition(size.text(count, 20)))
    denoise, path = Guided(model, classifier_free(text, none, GUIDANCE)), trailing(model.schedule, steps)

    @torch.no_grad()
    def run() -> Tensor:
        noise = Noise(range(count))
        return sample(denoise, noise((count, *size.latent)), path, noise=noise)

    return run


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=7, steps=1)
    parser.add_argument("--embedded", action="store_true", help="a network of the embedded model's shape")
    parser.add_argument("--side", type=int, default=64, metavar="N", help="of the latents (64)")
    parser.add_argument("--peak", metavar="CASE", help="only run this one, and print its peak memory in MiB")
    options = parser.parse_args()
    size = EMBEDDED if options.embedded else full_at(options.side)
    torch.set_num_threads(options.threads or usable_threads())
    unet = size.unet()
    if options.peak:
        case = CASES[options.peak.removesuffix(" plain")]
        edits = () if options.peak.endswith(" plain") else case.edits(size)
        loop(size, unet, case.pictures, edits, options.steps)()
        print(peak_of_this())
        return
    words = [word for word in sys.argv[1:] if word != "--write"]
    rows: dict[str, list[Any]] = {}
    for name, case in CASES.items():
        edited, plain = (loop(size, unet, case.pictures, edits, options.steps) for edits in (case.edits(size), ()))
        times = compared(*interleaved(edited, plain, options.repeats))
        peaks = [peak_of_child(__file__, [*words, "--peak", f"{name}{kind}"]) for kind in ("", " plain")]
        rows[f"{name}, {case.pictures} picture{'s'[: case.pictures - 1]}"] = [*times, case.limit, *peaks]
        print(name, times, peaks, file=sys.stderr)
    report = Report(
        title=f"Guidance with attention edits at {size.name}",
        command=" ".join(["python benchmarks/edits_cost.py", *words]),
        count=options.repeats,
        columns=("edited, s", "plain, s", "ratio", "limit", "edited, MiB", "plain, MiB"),
        rows=rows,
        notes=(
            "Random weights, text states given, latents out: DDIM, guidance 7.5, both branches in one forward pass.",
            "Runs are interleaved; the interval of the ratio is the sign test's, over pairs. Memory: one process each.",
        ),
        settings={
            "machine": machine(),
            "threads": torch.get_num_threads(),
            "dtype": "float32",
            "steps": options.steps,
        },
    )
    finish(report, f"edits_cost{'_embedded' if options.embedded else ''}", options.write)


if __name__ == "__main__":
    main()
