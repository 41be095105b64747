"""Our defaults against diffusers' defaults: dtype and threads as each library chooses them, decoding included.

Ours: bfloat16 where the CPU has it natively, threads of the cores in reach. Theirs: float32, torch's threads.
"""

from __future__ import annotations

import sys

import torch
from measure import compared, finish, flags, interleaved, machine
from networks import EMBEDDED, FULL, our_loop, their_loop
from torch import Tensor

from sfumato.evaluate.report import Report
from sfumato.machine import best_dtype, usable_threads


def main() -> None:
    """Measure and print."""
    parser = flags(__doc__, repeats=9, steps=0)
    parser.add_argument("--full", action="store_true", help="random networks of Stable Diffusion 1.5's shape")
    parser.add_argument("--batch", type=int, default=1, metavar="N", help="pictures in a run (1)")
    options = parser.parse_args()
    size = FULL if options.full else EMBEDDED
    steps, dtype = options.steps or size.steps, best_dtype()
    threads = {"ours": options.threads or usable_threads(), "diffusers": options.threads or torch.get_num_threads()}
    our_run = our_loop(size, size.unet(), options.batch, steps, getattr(torch, dtype), size.vae())
    their_run = their_loop(size, size.unet(), options.batch, steps, torch.float32, size.vae())

    def ours() -> Tensor:
        torch.set_num_threads(threads["ours"])
        return our_run()

    def theirs() -> Tensor:
        torch.set_num_threads(threads["diffusers"])
        return their_run()

    words = [word for word in sys.argv[1:] if word != "--write"]
    report = Report(
        title=f"Defaults at {size.name}",
        command=" ".join(["python benchmarks/defaults.py", *words]),
        count=options.repeats,
        columns=("ours", "diffusers", "ratio"),
        rows={"seconds a run (median)": compared(*interleaved(ours, theirs, options.repeats))},
        notes=(
            "Random weights, text states given, pictures out: DDIM, guidance 7.5, both branches in one forward pass.",
            "Runs are interleaved; the interval of the ratio is the sign test's, over pairs.",
        ),
        settings={
            "machine": machine(),
            "dtypes": f"{dtype} and float32",
            "threads": f"{threads['ours']} and {threads['diffusers']}",
            "steps": steps,
            "pictures": options.batch,
        },
    )
    finish(report, "defaults_full" if options.full else "defaults", options.write)


if __name__ == "__main__":
    main()
