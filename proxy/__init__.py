"""askonce: an OpenAI-compatible transparent proxy that never pays twice for the same answer."""

__version__ = "0.1.0"

import os

# The model's matrices are small: more threads than one per text spend their time waiting for each other (8 tokens took
# 180 ms instead of 30 on two busy cores). Read by numpy's BLAS when numpy is imported, so it must be set before that.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
