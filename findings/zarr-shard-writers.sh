#!/usr/bin/env bash
# zarr 3.1.6: processes that write different chunks of one shard lose each other's, and nothing is raised.
#
# Expected: chunks that do not overlap can be written at once, as without shards.
# Seen: a write of a chunk reads the shard, and writes it again as a whole: of two at once, one chunk may be zeros.
# Who writes in parallel has to cut the work at shards; zarr does not check it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet zarr==3.1.6 numcodecs==0.16.5 numpy==2.4.6
cd "$folder"; cat > writers.py <<'EOF'
import multiprocessing, sys
import numpy as np
import zarr

WRITERS, ROWS, TRIES = 4, 2_000, 20


def write(path, index, start):
    array = zarr.open_array(path, mode="r+")
    start.wait()
    array[index * ROWS : (index + 1) * ROWS] = index + 1


def lost(path, shards):
    shape = (WRITERS * ROWS,)
    zarr.create_array(path, shape=shape, chunks=(ROWS,), shards=shards, dtype="i4")
    start = multiprocessing.Barrier(WRITERS)
    writers = [
        multiprocessing.Process(target=write, args=(path, i, start)) for i in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    return int(np.count_nonzero(zarr.open_array(path, mode="r")[:] == 0))


if __name__ == "__main__":
    without = sum(lost(f"plain{i}.zarr", None) for i in range(TRIES))
    sharded = sum(lost(f"shard{i}.zarr", (WRITERS * ROWS,)) for i in range(TRIES))
    total = TRIES * WRITERS * ROWS
    print(f"zarr {zarr.__version__}: of {total} values lost: {without} without shards, {sharded} with")
    sys.exit(not (without == 0 < sharded) and "other losses than were seen")
EOF
venv/bin/python writers.py
