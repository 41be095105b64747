"""Compiled networks keep a fixed number of graphs; a counting backend stands in for code generation."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sfumato.core.branch import Branch, Guided
from sfumato.core.model import DenoisingModel
from sfumato.core.path import trailing
from sfumato.networks.unet import UNetNetwork
from tests.parts import Flatten, HalveValues, Sharpen, branch, scaled_linear, start, tiny_model
from tests.tiny import tiny_unet

PATH = trailing(scaled_linear(), 5)[:-1]
EDITS = (Sharpen(), Flatten(), HalveValues())


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch.no_grad():
        yield
    torch._dynamo.reset()


def _compiled() -> tuple[DenoisingModel, list[int]]:
    """A tiny model with a compiled network, and a list that grows by one a graph."""
    graphs: list[int] = []

    def backend(module: nn.Module, inputs: list[Tensor]) -> Callable[..., Tensor]:
        graphs.append(len(inputs))
        return module.forward

    network = UNetNetwork(tiny_unet().double())
    compiled = torch.compile(network.unet, backend=backend, fullgraph=True)
    return DenoisingModel(replace(network, unet=compiled), scaled_linear()), graphs


@pytest.mark.parametrize(
    ("first", "second", "count"),
    [((), (), 1), (EDITS, (), 1), ((Sharpen(until=0.5),), (), 2)],
    ids=["plain", "three edits", "an edit that is switched off"],
)
def test_number_of_graphs(first: tuple, second: tuple, count: int) -> None:
    model, graphs = _compiled()
    text, none = branch(1, edits=first), branch(0, edits=second)
    denoise, stock = (Guided(m, none + 4.0 * (text - none)) for m in (model, tiny_model()))
    for _ in range(2):
        for level in PATH:
            found = denoise(start(), level)
    assert len(graphs) == count
    torch.testing.assert_close(found, stock(start(), PATH[-1]), rtol=0, atol=1e-9)


def test_new_edits_of_the_same_kinds_need_no_new_graph() -> None:
    model, graphs = _compiled()
    for seed in range(3):
        text, none = branch(seed, edits=(Flatten(), HalveValues())), branch(9)
        with torch._dynamo.config.patch(error_on_recompile=seed > 0):
            Guided(model, none + 4.0 * (text - none))(start(), PATH[0])
    assert len(graphs) == 1


def test_threads_that_probe_at_once_leave_compiling_as_it_was() -> None:
    models = [tiny_model() for _ in range(6)]

    def probe(model: DenoisingModel) -> None:
        with torch.no_grad():
            model(start(), PATH[0], [branch(1, edits=EDITS)])

    with ThreadPoolExecutor(len(models)) as threads:
        list(threads.map(probe, models))
    model, graphs = _compiled()
    model(start(), PATH[0], [branch(1)])
    assert len(graphs) == 1


def test_layer_names_survive_compiling() -> None:
    model, _ = _compiled()
    model(start(), PATH[0], [Branch(branch(1).condition, EDITS)])
    (sites,) = model._sites.values()
    assert sites[0].name.startswith("down_blocks.0.")
