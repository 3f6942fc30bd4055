#!/usr/bin/env bash
# safetensors 0.8.0: the same tensors and the same metadata are not the same bytes.
#
# Expected: `save` is a function of what it is given, so that a checksum tells whether weights changed, as DVC's
#   and Git LFS' do.
# Seen: metadata of several keys is written in an order that is another for each call: six saves, several files.
# The tensors are in order, and metadata of one key is, too: put all of it into one key as JSON.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet safetensors==0.8.0 numpy==2.4.6
cd "$folder"; venv/bin/python - <<'EOF'
import hashlib, json, sys
import numpy as np
import safetensors
from safetensors.numpy import save

weights = {name: np.zeros(2, np.float32) for name in "dacb"}
notes = {f"key{i}": "value" for i in range(8)}


def digests(metadata):
    return {hashlib.sha256(save(weights, metadata)).hexdigest()[:12] for _ in range(6)}


several, one = digests(notes), digests({"notes": json.dumps(notes)})
print(f"safetensors {safetensors.__version__}: six saves with eight keys:", *sorted(several))
print("six saves with one key:", *one)
sys.exit(not (len(several) > 1 and len(one) == 1) and "another order of metadata than was seen")
EOF
