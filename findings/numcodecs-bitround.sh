#!/usr/bin/env bash
# numcodecs 0.16.5: BitRound makes infinities of finite numbers.
#
# Expected: rounding the mantissa to fewer bits moves a number by at most half a unit of the last bit that is kept,
#   and what is finite stays so.
# Seen: numbers near the largest of the type are rounded up into the exponent, past the largest: infinity. Fill
#   values such as `np.finfo(np.float32).max`, a usual mark of missing data, do not survive.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet numcodecs==0.16.5 numpy==2.4.6
cd "$folder"; venv/bin/python - <<'EOF'
import sys
import numcodecs
import numpy as np

found = []
for kind, keepbits in ((np.float16, 5), (np.float32, 10), (np.float64, 20)):
    codec = numcodecs.BitRound(keepbits)
    rounded = np.asarray(codec.decode(codec.encode(np.array([np.finfo(kind).max], kind))))
    print(f"numcodecs {numcodecs.__version__}: {np.finfo(kind).max} -> {rounded[0]}, {keepbits} bits")
    found.append(bool(np.isinf(rounded).all()))
sys.exit(not all(found) and "what is finite stays finite now")
EOF
