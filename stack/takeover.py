"""Becomes a supervised program, after ending what an earlier, killed run of it left behind.

``python -m stack.takeover NAME PROGRAM [ARGUMENT…]``. A server that is killed leaves its own children: they
would hold its port, and the server that supervisord starts in its place could never listen.
"""

from __future__ import annotations

import os
import sys

from core.settings import load_settings
from stack.sweep import kill_members


def main(name: str, *argv: str) -> None:
    """End the leftovers of the process called `name`, then become the program."""
    kill_members(load_settings(), process=name)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(*sys.argv[1:])
