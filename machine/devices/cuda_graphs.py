"""A training step as a CUDA graph: its thousand kernels are started by one call."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

WARMUP = 3  # calls before one is recorded: compilers compile, libraries set themselves up


class Replayed:
    """A function of tensors on a GPU that is recorded once for all inputs of the same shapes.

    From then on a call copies its inputs to where the recorded ones lay and starts the kernels that
    were recorded. So the function must not depend on what its tensors hold but through kernels, nor
    on anything else that changes; what is no tensor among its arguments tells recordings apart. Its
    results, tensors too, are overwritten by the next call. Random numbers go on as without.
    """

    def __init__(self, function: Callable[..., dict[str, Tensor]]) -> None:
        self.function = function
        self.stream = torch.cuda.Stream()
        self.calls: dict[Any, int] = {}
        self.recorded: dict[Any, tuple[torch.cuda.CUDAGraph, list[Tensor], dict[str, Tensor]]] = {}
        self.pool: Any = None

    def __call__(self, *arguments: Any) -> dict[str, Tensor]:
        leaves, form = tree_flatten(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        key = tuple(leaf.shape if isinstance(leaf, Tensor) else leaf for leaf in leaves)
        if key not in self.recorded:
            self.calls[key] = self.calls.get(key, 0) + 1
            if self.calls[key] <= WARMUP:
                return self._run(arguments)
            self.recorded[key] = self._record(leaves, form)
        graph, places, results = self.recorded[key]
        for place, tensor in zip(places, tensors, strict=True):
            place.copy_(tensor, non_blocking=True)
        graph.replay()
        return results

    def _run(self, arguments: tuple[Any, ...]) -> dict[str, Tensor]:
        """The function as it is, on the stream that records: what is set up belongs to a stream."""
        current = torch.cuda.current_stream()
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            results = self.function(*arguments)
        current.wait_stream(self.stream)
        return results

    def _record(
        self, leaves: list[Any], form: Any
    ) -> tuple[torch.cuda.CUDAGraph, list[Tensor], dict[str, Tensor]]:
        copies = [leaf.clone() if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self.pool, stream=self.stream):
            results = self.function(*tree_unflatten(copies, form))
        self.pool = graph.pool()
        return graph, [copy for copy in copies if isinstance(copy, Tensor)], results
