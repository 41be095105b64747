"""Our sampling loop against diffusers' StableDiffusionPipeline: time and memory at equal dtype, threads and steps.

Both take text states and give latents, so that nothing but the loop and the network is measured.
"""

from __future__ import annotations

import sys

import torch
from measure import compared, finish, flags, interleaved, machine, peak_of_child, peak_of_this
from networks import EMBEDDED, full_at, our_loop, their_loop

from sfumato.evaluate.report import Report
from sfumato.machine import usable_threads

LOOPS = {"ours": our_loop, "diffusers": their_loop}


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=9, steps=0)
    parser.add_argument("--full", action="store_true", help="a random network of Stable Diffusion 1.5's shape")
    parser.add_argument("--side", type=int, default=64, metavar="N", help="of the full network's latents (64)")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="pictures in a run (1)")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--peak", choices=tuple(LOOPS), help="only run this one, and print its peak memory in MiB")
    options = parser.parse_args()
    size = full_at(options.side) if options.full else EMBEDDED
    steps, dtype = options.steps or size.steps, getattr(torch, options.dtype)
    torch.set_num_threads(options.threads or usable_threads())
    if options.peak:
        LOOPS[options.peak](size, size.unet(), options.batch, steps, dtype)()
        print(peak_of_this())
        return
    ours, theirs = (loop(size, size.unet(), options.batch, steps, dtype) for loop in LOOPS.values())
    apart = float((ours() - theirs().float()).abs().max())
    seconds = compared(*interleaved(ours, theirs, options.repeats))
    words = [word for word in sys.argv[1:] if word != "--write"]
    peaks = [peak_of_child(__file__, [*words, "--peak", name]) for name in LOOPS]
    report = Report(
        title=f"The sampling loop at {size.name}",
        command=" ".join(["python benchmarks/sampling_loop.py", *words]),
        count=options.repeats,
        columns=("ours", "diffusers", "ratio"),
        rows={"seconds a run (median)": seconds, "peak memory, MiB": [*peaks, peaks[0] / peaks[1]]},
        notes=(
            "Random weights, text states given, latents out: DDIM, guidance 7.5, both branches in one forward pass.",
            "Runs are interleaved; the interval of the ratio is the sign test's, over pairs. Memory: one process each.",
            f"Largest difference of the latents: {apart:.2g}.",
        ),
        settings={
            "machine": machine(),
            "threads": torch.get_num_threads(),
            "dtype": options.dtype,
            "steps": steps,
            "pictures": options.batch,
        },
    )
    finish(report, f"sampling_loop{size.suffix}", options.write)


if __name__ == "__main__":
    main()
