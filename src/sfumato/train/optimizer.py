"""The optimisers of a run: AdamW on everything, or Muon on weight matrices and AdamW on the rest.

Muon replaces the momentum of a weight matrix by the nearest matrix with orthonormal rows or columns, so that every
direction of a layer moves alike.

Paper: Muon is Scalable for LLM Training (Liu et al., 2025), arXiv:2502.16982, section 2; Decoupled Weight Decay
    Regularization (Loshchilov and Hutter, 2019), arXiv:1711.05101.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.train.config import FitConfig

__all__ = ["MatrixMuon", "moments", "optimizers", "restore"]

_FEWEST_ROWS = 16


def optimizers(module: nn.Module, config: FitConfig) -> list[torch.optim.Optimizer]:
    """What moves the parameters of a module that require a gradient.

    Args:
        module: on the device where it is trained.
        config: ``optimizer``, ``learning_rate``, ``adam_beta2``, ``weight_decay``.

    Returns:
        AdamW alone; or :class:`MatrixMuon` for the weights of linear and convolution layers of 16 outputs or more, and
        AdamW for all others.
    """
    matrices = _matrices(module) if config.optimizer == "muon" else []
    known = {id(weight) for weight in matrices}
    others = [weight for weight in module.parameters() if weight.requires_grad and id(weight) not in known]
    settings: dict[str, Any] = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    found: list[torch.optim.Optimizer] = [MatrixMuon(matrices, **settings)] if matrices else []
    if others:
        found.append(torch.optim.AdamW(others, betas=(0.9, config.adam_beta2), fused=True, **settings))
    return found


class MatrixMuon(torch.optim.Muon):
    """torch's Muon for weights of two dimensions or more, each taken as a matrix of (outputs, all inputs).

    Its updates are scaled to the size of AdamW's, so that the same learning rates serve. What it remembers is of the
    matrices' shape, however the weights lie in memory; they may be moved between steps.

    Args:
        weights: parameters (out, ...), which are moved.
        lr: learning rate, > 0.
        weight_decay: decoupled, >= 0.
    """

    def __init__(self, weights: Sequence[Tensor], lr: float, weight_decay: float) -> None:
        self.weights = list(weights)
        matrices = [_matrix(weight.detach()) for weight in self.weights]
        super().__init__(matrices, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """One update from the gradients of the weights; those without one stay."""
        matrices = self.param_groups[0]["params"]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            matrix.data = _matrix(weight.detach())
            matrix.grad = None if weight.grad is None else _matrix(weight.grad)
        result = super().step(closure)
        for weight, matrix in zip(self.weights, matrices, strict=True):
            if matrix.data_ptr() != weight.data_ptr():
                weight.copy_(matrix.view(weight.shape))
        return result

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients of the weights."""
        for weight in self.weights:
            weight.grad = None
        super().zero_grad(set_to_none)


def _matrices(module: nn.Module) -> list[Tensor]:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    weights = {id(layer.weight): layer.weight for layer in layers if layer.weight.requires_grad}
    return [weight for weight in weights.values() if len(weight) >= _FEWEST_ROWS]


def _matrix(tensor: Tensor) -> Tensor:
    """(out, ...) as (out, all the rest): the tensor's own memory where it lies row by row, a copy where not."""
    return tensor.reshape(len(tensor), -1)


def moments(optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """What optimisers remember, by "optimiser.weight.name", for :func:`restore`.

    Args:
        optimizers: of one run, in order.

    Returns:
        tensors of the weights' shapes (...), and numbers ().
    """
    return {
        f"{number}.{index}.{name}": value
        for number, optimizer in enumerate(optimizers)
        for index, remembered in optimizer.state_dict()["state"].items()
        for name, value in remembered.items()
    }


def restore(optimizers: Sequence[torch.optim.Optimizer], held: Mapping[str, Tensor]) -> None:
    """Give optimisers back what they remembered of each weight, in that weight's own order in memory.

    A file holds tensors row by row; a network's weights may lie channels last, and fused steps read both as they lie.

    Args:
        optimizers: whose state is replaced.
        held: as :func:`moments` gave it: tensors of the weights' shapes (...), and numbers ().
    """
    for number, optimizer in enumerate(optimizers):
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in held.items():
            owner, index, name = key.split(".", 2)
            if int(owner) == number:
                state.setdefault(int(index), {})[name] = value
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
        for weight, remembered in optimizer.state.items():
            for name, value in remembered.items():
                if isinstance(value, Tensor) and value.shape == weight.shape:
                    remembered[name] = torch.empty_like(weight, dtype=value.dtype).copy_(value)
