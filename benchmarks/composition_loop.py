"""AND of three prompts, four branches in one forward pass, against a bare loop over the same U-Net and the same rows.

The bare loop is the least that any program can do: the network on four rows, their weighted sum, and DDIM's formula,
with all its numbers known before it begins.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch
from measure import compared, finish, flags, interleaved, machine
from networks import EMBEDDED, Size, full_at
from torch import Tensor

from sfumato.core.branch import Branch, Guided
from sfumato.core.condition import Condition
from sfumato.core.model import DenoisingModel
from sfumato.core.noise import Noise
from sfumato.core.path import trailing
from sfumato.core.sample import sample
from sfumato.evaluate.report import Report
from sfumato.guidance.composable import composed
from sfumato.machine import usable_threads
from sfumato.networks.unet import UNetNetwork
from sfumato.samplers.schedule import prediction_of, schedule_of
from sfumato.train import embedded

WEIGHTS = (4.0, 3.0, -2.0)
"""Two prompts that are asked for, and one that is not."""


def composition(size: Size, unet: Any, steps: int) -> Callable[[], Tensor]:
    """Our loop."""
    scheduler = embedded.SCHEDULER
    model = DenoisingModel(UNetNetwork(unet, prediction_of(scheduler)), schedule_of(scheduler))
    none, *asked = (Branch(Condition(size.text(1, seed))) for seed in range(len(WEIGHTS) + 1))
    denoise = Guided(model, composed(none, *zip(asked, WEIGHTS, strict=True)))
    path = trailing(model.schedule, steps)

    @torch.no_grad()
    def run() -> Tensor:
        noise = Noise([7])
        return sample(denoise, noise((1, *size.latent)), path, noise=noise)

    return run


def bare(size: Size, unet: Any, steps: int) -> Callable[[], Tensor]:
    """The network, a sum and a formula."""
    levels = trailing(schedule_of(embedded.SCHEDULER), steps)
    numbers = [(int(level.time), float(level.alpha), float(level.sigma)) for level in levels]
    tokens = torch.cat([size.text(1, seed) for seed in range(len(WEIGHTS) + 1)])
    weights = torch.tensor([1 - sum(WEIGHTS), *WEIGHTS])[:, None, None, None]

    @torch.no_grad()
    def run() -> Tensor:
        x = Noise([7])((1, *size.latent))
        for (time, alpha, sigma), (_, next_alpha, next_sigma) in zip(numbers, numbers[1:], strict=False):
            v = unet(x.repeat(len(tokens), 1, 1, 1), time, tokens, return_dict=False)[0]
            v = (weights * v).sum(0, keepdim=True)
            x0, noise = alpha * x - sigma * v, sigma * x + alpha * v
            x = next_alpha * x0 + next_sigma * noise
        return x

    return run


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=21, steps=0)
    parser.add_argument("--full", action="store_true", help="a random network of Stable Diffusion 1.5's shape")
    parser.add_argument("--side", type=int, default=64, metavar="N", help="of the full network's latents (64)")
    options = parser.parse_args()
    size = full_at(options.side) if options.full else EMBEDDED
    steps = options.steps or size.steps
    torch.set_num_threads(options.threads or usable_threads())
    unet = size.unet()
    ours, theirs = composition(size, unet, steps), bare(size, unet, steps)
    apart = float((ours() - theirs()).abs().max())
    words = [word for word in sys.argv[1:] if word != "--write"]
    report = Report(
        title=f"AND with four branches at {size.name}",
        command=" ".join(["python benchmarks/composition_loop.py", *words]),
        count=options.repeats,
        columns=("ours", "bare loop", "ratio"),
        rows={"seconds a run (median)": compared(*interleaved(ours, theirs, options.repeats))},
        notes=(
            "Random weights, text states given, latents out: DDIM, weights 4, 3 and -2, four rows a forward pass.",
            "Runs are interleaved; the interval of the ratio is the sign test's, over pairs.",
            f"Largest difference of the latents: {apart:.2g}.",
        ),
        settings={"machine": machine(), "threads": torch.get_num_threads(), "dtype": "float32", "steps": steps},
    )
    finish(report, f"composition_loop{size.suffix}", options.write)


if __name__ == "__main__":
    main()
