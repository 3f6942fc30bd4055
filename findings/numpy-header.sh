#!/usr/bin/env bash
# NumPy 2.4.6: a memory-mapped .npy file whose shape was computed by NumPy cannot be loaded again.
#
# Expected: `open_memmap` with a shape of `np.int64`, such as `offsets[-1]`, writes `(3, 2)` into the header.
# Seen: it writes `(np.int64(3), 2)`, the repr of NumPy 2, and `np.load` raises ValueError: malformed node.
# `np.save` of an array is not concerned: the shape of an array is of Python's integers.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numpy==2.4.6
cd "$folder"; venv/bin/python - <<'EOF'
import sys
import numpy as np

frames = np.cumsum([1, 2])[-1]
array = np.lib.format.open_memmap("a.npy", mode="w+", dtype="f4", shape=(frames, 2))
array[:] = 1
array.flush()
with open("a.npy", "rb") as file:
    print(f"NumPy {np.__version__} wrote", file.read(128)[10:].decode().strip())
try:
    print("loaded:", np.load("a.npy").shape)
except ValueError as error:
    print("ValueError:", error)
else:
    sys.exit("NumPy loads it now")
EOF
