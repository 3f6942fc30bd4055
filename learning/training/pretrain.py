"""Pretraining: SCD-Net's objective (AAAI 2024, section 3.4) on two random views of each clip.

A step, from views to loss to update, reads in four files: this one has the views of a batch, the
networks, the queues and the loss; `views` and `augment` make a view; `optimiser` has the update.
`loop` repeats it.
"""

import copy
from collections.abc import Callable, Iterable, Sequence
from itertools import cycle, islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from errors import UserError
from learning.training.checkpoint import Checkpoint
from learning.training.device_clips import Task
from learning.training.loop import Curve, Figures, Loss, Recipe, Step, train
from learning.training.randomness import batches
from learning.training.settings import TERMS
from learning.training.views import training_view
from machine.devices.distributed import dealt, gather, parallel, ranks
from machine.devices.reproducibility import computing
from model.network.absent_bodies import Plan, plan
from model.network.encoder import Projector

DOMAINS = "tsi"  # temporal, spatial, instance
MARGIN = torch.finfo(torch.float32).eps  # of similarities: what is nearer is rounding


def pretrain(
    network: "SCDNet",
    task: Task,
    recipe: Recipe,
    *,
    fill_queue: bool = True,
    evaluate: Callable[[int], Figures] = lambda epoch: {},
    checkpoint: Checkpoint | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> Curve:
    """Trains `network` on the training clips of `task`, in whole batches; returns the loss, its
    terms, the contrast accuracy (%) and what `evaluate` adds of every epoch.

    A step of compiled encoders is replayed as a CUDA graph on a GPU that holds the clips' frames.
    `fill_queue` replaces the random vectors that the queues start with by keys of these clips, as
    the untrained key network gives them. Saves to `checkpoint` and continues from it as `train`
    does, and raises what `batches` and `train` raise, and UserError if views are all alike.
    """
    clips, encoder = task.clips, network.query.encoder
    loader = batches(task.train, batch=recipe.batch, seed=recipe.seed, drop_last=True)
    together = parallel(network, unused=len(network.terms) < len(TERMS))
    alone = encoder.compiled and ranks() == 1
    replay = alone and clips.frames.device.type == "cuda"

    def views(indices: Tensor, epoch: int | Tensor) -> Tensor:
        """A query view of each clip, then a key view of each, as (2 B, 3, T, V, M)."""
        computing(clips.device, "fp32")
        number = torch.arange(2, device=clips.frames.device).repeat_interleave(len(indices))
        return training_view(
            clips,
            indices.repeat(2),
            size=encoder.architecture["frames"],
            stream=task.stream,
            augmentations=recipe.augmentations,
            seed=recipe.seed,
            epoch=epoch,
            view=number,
        ).x

    def inputs(indices: Tensor, epoch: int) -> tuple[Tensor, int | Tensor, Plan | None]:
        paired = clips.paired[indices] if alone and clips.paired is not None else None
        bodies = None if paired is None else plan(paired, clips.device)
        if not replay:
            return indices, epoch, bodies
        now = torch.full((), epoch, device=clips.device)
        return indices.to(clips.device, non_blocking=True), now, bodies

    def loss(indices: Tensor, epoch: int | Tensor, bodies: Plan | None) -> Loss:
        both = views(indices, epoch)
        with computing(clips.device, recipe.precision):
            return together(*both.chunk(2), bodies)

    def start() -> None:
        length = len(network.queue("i")) if fill_queue else 0
        for batch in islice(cycle(loader), length // loader.batch_size):
            with dealt(batch) as (part, _):
                network.warm_up_queue(views(part, epoch=-1).chunk(2)[1])

    some = torch.as_tensor(task.train[:: -(-len(task.train) // recipe.batch)])
    if bool(((seen := views(some, epoch=-1)) == seen[0]).all()):
        raise UserError(f"all {task.stream} views are alike, masked or still: nothing to learn")
    return train(
        Step(loss, inputs, replay, start),
        network,
        loader,
        sgd=recipe.sgd,
        seed=recipe.seed,
        evaluate=evaluate,
        checkpoint=checkpoint,
        progress=progress,
    )


def contrast(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Similarities of queries to their own keys (column 0) and to the queue's, over the
    temperature.

    query, key (B, D) and queue (K, D) are normalised; returns (B, 1 + K). InfoNCE is the
    cross-entropy of this with target 0 (van den Oord et al., 2018, eq. 4).
    """
    positive = (query * key).sum(dim=1, keepdim=True)
    negative = query @ queue.T
    return torch.cat([positive, negative], dim=1) / temperature


@torch.no_grad()
def own_key_found(query: Tensor, key: Tensor, queue: Tensor, logits: Tensor) -> Tensor:
    """True for the queries (B,) that are more similar to their own key than to any of the queue's.

    The arguments are those of `contrast` and its result. That rounds the similarities to equal keys
    differently; here the own key is compared with the hardest negative by the similarity to their
    difference, which is exactly 0 where they are equal. So a collapsed network finds none.
    """
    hardest = queue[logits[:, 1:].argmax(dim=1)]
    return (query * (key - hardest)).sum(dim=1) > MARGIN


class SCDNet(nn.Module):
    """A query projector, its momentum copy for the keys, and a queue of past keys for each domain.

    Args:
        query: the network to train.
        queue: length K of each queue.
        momentum: m of the key network's update, key = m * key + (1 - m) * query.
        temperature: of the similarities.
        terms: which of the four InfoNCE terms make the loss.
    """

    def __init__(
        self,
        query: Projector,
        *,
        queue: int = 8192,
        momentum: float = 0.999,
        temperature: float = 0.2,
        terms: Sequence[str] = TERMS,
    ) -> None:
        super().__init__()
        self.query = query
        self.key = copy.deepcopy(query).requires_grad_(False)
        self.momentum, self.temperature, self.terms = momentum, temperature, tuple(terms)
        for domain in DOMAINS:
            keys = F.normalize(torch.randn(queue, query.projection), dim=1)
            self.register_buffer(f"{domain}_queue", keys)
        self.pointer: Tensor
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def queue(self, domain: str) -> Tensor:
        """The (K, D) past keys of a domain."""
        return self.get_buffer(f"{domain}_queue")

    def forward(self, query_view: Tensor, key_view: Tensor, plan: Plan | None = None) -> Loss:
        """Two views (B, 3, T, V, M) of the same clips -> the loss, and every term and the contrast
        accuracy (%). `plan` says which of their bodies are computed.

        One training step's forward pass: it updates the key network and enqueues the keys. The
        accuracy is how often a query of the `si` term, or else of the first term, is more similar
        to its own key than to any of the queue.
        """
        queries = self.query(query_view, plan)
        with torch.no_grad():
            self.momentum_update()
            keys = self.key(key_view, plan)
        # Similarities are computed in fp32, whatever precision the networks run in.
        with torch.autocast(query_view.device.type, enabled=False):
            return self.loss(queries, keys)

    def loss(self, queries: Sequence[Tensor], keys: Sequence[Tensor]) -> Loss:
        """The loss, its terms and the accuracy of the projections z_t, z_s, z_i of both views;
        enqueues the keys.
        """
        query, key = _normalised(queries), _normalised(keys)
        figures: dict[str, Tensor] = {}
        target = torch.zeros(len(queries[0]), dtype=torch.long, device=queries[0].device)
        for term in self.terms:
            of_query, of_key = term[0], term[1]
            # The backward pass needs the queue as it was before `enqueue`.
            queue = self.queue(of_key).clone()
            logits = contrast(query[of_query], key[of_key], queue, self.temperature)
            figures[term] = F.cross_entropy(logits, target)
            if term == "si" or "accuracy" not in figures:
                found = own_key_found(query[of_query], key[of_key], queue, logits)
                figures["accuracy"] = found.float().mean() * 100
        loss = torch.stack([figures[term] for term in self.terms]).sum()
        self.enqueue(key)
        return loss, {name: figure.detach() for name, figure in figures.items()}

    @torch.no_grad()
    def warm_up_queue(self, view: Tensor) -> None:
        """Enqueues the keys of a view (B, 3, T, V, M) without a training step."""
        self.enqueue(_normalised(self.key(view)))

    @torch.no_grad()
    def momentum_update(self) -> None:
        """Moves the key network's parameters towards the query network's."""
        torch._foreach_lerp_(
            list(self.key.parameters()), list(self.query.parameters()), 1 - self.momentum
        )

    @torch.no_grad()
    def enqueue(self, keys: dict[str, Tensor]) -> None:
        """The keys (B, D) of each domain, of all processes, replace the oldest of its queue."""
        new = gather(torch.stack([keys[domain] for domain in DOMAINS], dim=1))
        length = len(self.queue("i"))
        rows = (self.pointer + torch.arange(len(new), device=new.device)) % length
        for number, domain in enumerate(DOMAINS):
            self.queue(domain).index_copy_(0, rows, new[:, number])
        self.pointer.add_(len(new)).remainder_(length)


def _normalised(projections: Sequence[Tensor]) -> dict[str, Tensor]:
    """The projections z_t, z_s, z_i (B, D) with norm 1, by domain."""
    return {d: F.normalize(z.float(), dim=1) for d, z in zip(DOMAINS, projections, strict=True)}
