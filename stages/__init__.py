"""The stages of the pipeline, one module each: `python -m stages.<stage> <key>`."""

import os

# Threads that wait for each other while another program holds a core must not spin: on two shared
# cores spinning made a training step many times slower. Set before torch loads OpenMP.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
