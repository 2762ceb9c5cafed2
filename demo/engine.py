"""A real inference engine as a process of its own: llama.cpp's HTTP server on a model of random weights.

`python -m demo.engine --port N` listens on 127.0.0.1 until SIGTERM, or until the process that started it ends.
"""

import argparse
import os
import signal
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

from demo.random_model import CONTEXT_TOKENS, NAME, ready_model

ROOT = Path(__file__).resolve().parent.parent
LABEL = "random weights: the words are nonsense, the protocol is real"
# How often it looks whether its parent still lives.
WATCH_S = 0.5


def model_file() -> Path:
    """The model, in the project's own cache folder or, where that cannot be written, among temporary files."""
    try:
        return ready_model(ROOT / ".cache" / "demo")
    except OSError:
        return ready_model(Path(tempfile.gettempdir()) / f"askonce-demo-{os.getuid()}")


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    parser = argparse.ArgumentParser(prog="python -m demo.engine", description=__doc__)
    parser.add_argument("--port", type=int, default=8081, help="where to listen on 127.0.0.1 (default: 8081)")
    parser.add_argument("--slots", type=int, default=4, help="how many answers it works on at once (default: 4)")
    chosen = parser.parse_args()
    parent = os.getppid()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))

    # By name, because the wheel has no types; a machine without one says so in one line.
    llama = import_module("xllamacpp")
    params = llama.CommonParams()
    params.model.path = str(model_file())
    params.model_alias = {NAME}
    params.port = chosen.port
    params.n_parallel = chosen.slots
    params.n_ctx = CONTEXT_TOKENS * chosen.slots
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.n_threads_http = 32
    params.cache_ram_mib = 64
    params.fit_params = False
    params.endpoint_metrics = True
    params.ui = False
    params.offline = True
    # One line for each request: what our own count of them rests on.
    params.verbosity = 3
    server = llama.Server(params)
    print(f"{NAME} ({LABEL}) listening on {server.listening_address}", file=sys.stderr, flush=True)
    try:
        while os.getppid() == parent:
            time.sleep(WATCH_S)
    except (KeyboardInterrupt, SystemExit):
        pass
    # Its destructor would first finish every answer it is working on, and nobody is left to read them.
    os._exit(0)


if __name__ == "__main__":
    main()
