#!/usr/bin/env bash
# torchdata 0.11.0, torch 2.13.0: a loader that goes on from its saved state gives other samples than one that was not
# stopped, when samples are augmented at random.
#
# Expected: after `load_state_dict` a `StatefulDataLoader` gives the rest of the epoch as it would have been.
# Seen: the order of the samples is the same, and random numbers that the dataset draws are not: the state holds the
#   sampler's generator, none of the dataset's, with workers or without.
# Draw them from (seed, epoch, index) instead. pip brings PyTorch: without a build for CPUs, gigabytes.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet torchdata==0.11.0 torch==2.13.0 numpy==2.4.6
cd "$folder"; cat > resume.py <<'EOF'
import importlib.metadata, sys
import torch
from torchdata.stateful_dataloader import StatefulDataLoader


class Noisy(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return index, torch.rand(()).item()


def loader(workers):
    order = torch.Generator().manual_seed(0)
    return StatefulDataLoader(Noisy(), 2, shuffle=True, num_workers=workers, generator=order)


def parts(batches):
    pairs = [(index.tolist(), drawn.tolist()) for index, drawn in batches]
    return [index for index, _ in pairs], [drawn for _, drawn in pairs]


if __name__ == "__main__":
    print("torchdata", importlib.metadata.version("torchdata"), "torch", torch.__version__)
    seen = []
    for workers in (0, 1):
        torch.manual_seed(1)
        first = loader(workers)
        going = iter(first)
        next(going)
        state = first.state_dict()
        order, drawn = parts(going)
        torch.manual_seed(1)
        second = loader(workers)
        second.load_state_dict(state)
        order_again, drawn_again = parts(second)
        seen.append((order == order_again, drawn == drawn_again))
        print(f"{workers} workers: same order {seen[-1][0]}, same random numbers {seen[-1][1]}")
    sys.exit(seen != [(True, False)] * 2 and "another state than was seen")
EOF
venv/bin/python resume.py
