"""`python -m demo.leash PARENT MODULE ...` is `python -m MODULE ...`, ended when the process PARENT ends (Linux).

Whoever starts a child ends it; this is for the one that is killed and cannot. The child sets it up itself, because
code between fork and exec (`preexec_fn`) is not safe in a process with threads.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent, module, *arguments = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != int(parent):
            return
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
