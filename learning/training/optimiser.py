"""The update: one step of stochastic gradient descent."""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.optim.sgd import sgd

from learning.training.settings import SGD


class Optimiser:
    """Updates of `parameters`, as `torch.optim.SGD` does them, in one fused call.

    PyTorch's class imports its compiler, if only to do without it, which takes longer than a short
    training; the function that it calls does not.
    """

    def __init__(self, parameters: Iterable[Tensor], settings: SGD) -> None:
        self.parameters, self.settings = list(parameters), settings
        self.buffers: dict[int, Tensor | None] = {}  # of the parameters that have moved

    def update(self, loss: Tensor, lr: float | Tensor) -> None:
        """Moves each parameter that `loss` has a gradient for. `lr` may be on the device."""
        for parameter in self.parameters:
            parameter.grad = None
        loss.backward()
        moved = {i: p.grad for i, p in enumerate(self.parameters) if p.grad is not None}
        buffers = [self.buffers.get(i) for i in moved]
        with torch.no_grad():
            sgd(
                [self.parameters[i] for i in moved],
                list(moved.values()),
                buffers,
                fused=True,
                weight_decay=self.settings.weight_decay,
                momentum=self.settings.momentum,
                lr=lr,  # type: ignore[arg-type]  # of the class, too, a tensor is taken
                dampening=0,
                nesterov=False,
                maximize=False,
            )
        self.buffers.update(zip(moved, buffers, strict=True))
