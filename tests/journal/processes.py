"""Processes for tests of locks, crashes and forks."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

PREAMBLE = """
import os, sys
from pathlib import Path
from bluesky_tiled_writer.errors import JournalError
from bluesky_tiled_writer.journal import Header, JournalDirectory, JournalFile

def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # unbuffered: a fork shares it

directory = JournalDirectory(sys.argv[1])
"""


@contextmanager
def process(script: str, directory: object) -> Iterator[subprocess.Popen[str]]:
    """Run a script after the preamble, and kill it at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + script, str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def next_line(child: subprocess.Popen[str]) -> str:
    """Return the next line that the process prints; empty when it has ended."""
    return child.stdout.readline().strip()


def answer(script: str, directory: object) -> list[str]:
    """Return all words that a script prints until it ends."""
    with process(script, directory) as child:
        out, _ = child.communicate(timeout=60)
        assert child.returncode == 0
        return out.split()
