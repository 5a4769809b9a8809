"""A node's process: `python -m replay.live.tied PARENT MODULE ARGUMENT…` is `python -m MODULE ARGUMENT…`.

It is ended in order when process PARENT, which started it, is gone.
"""

from __future__ import annotations

import runpy
import signal
import sys

from fusion.parent import end_with


def main() -> None:
    """Be the module's program."""
    parent, module = int(sys.argv[1]), sys.argv[2]
    end_with(parent, signal.SIGTERM)
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
