"""The stages of the pipeline, one module each: `python -m stages.<stage> <key>`."""

import os
import signal
import sys

# Threads that wait for each other while another program holds a core must not spin for long: on two
# shared cores that made a training step many times slower. Set before torch loads OpenMP.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

if sys.argv[0] == "-m":  # a stage is starting: its imports take seconds, which Ctrl-C may interrupt
    signal.signal(signal.SIGINT, lambda *_: sys.exit("interrupted"))
