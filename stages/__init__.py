"""The stages of the pipeline, one module each: `python -m stages.<stage> <key>`."""

import os

# Threads that wait for each other while another program holds a core must not spin for long: on two
# shared cores that made a training step many times slower. Set before torch loads OpenMP.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
