"""IPython in a terminal, as a person has it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import pexpect
from servers import STARTUP_TIMEOUT

from .beamline import PROFILE, Beamline


class Terminal:
    """A session of IPython.

    Parameters
    ----------
    beamline : Beamline
        Where it runs.
    profile : Path, optional
        Directory of its profile, by default one whose start-up file makes a RunEngine and
        subscribes a writer; None for an empty one.
    python : str, optional
        Of the environment where it is, by default that of the tests.
    more : mapping, optional
        Environment variables beside those of the beamline.

    Attributes
    ----------
    greeting : str
        What it printed before the first prompt.
    """

    def __init__(
        self,
        beamline: Beamline,
        profile: Path | None = PROFILE,
        python: str = sys.executable,
        more: Mapping[str, str] | None = None,
    ) -> None:
        arguments = ["--simple-prompt", "--no-banner"]
        if profile is not None:
            copy = beamline.home / "profile"
            shutil.copytree(profile, copy, dirs_exist_ok=True)  # IPython writes into it
            arguments.append(f"--profile-dir={copy}")
        self._child = pexpect.spawn(
            python,
            ["-m", "IPython", *arguments],
            cwd=beamline.home,
            env=beamline.environment | {"NO_COLOR": "1", "TERM": "dumb", **(more or {})},
            encoding="utf-8",
            echo=False,
            timeout=STARTUP_TIMEOUT,
        )
        self._line = 1
        self.greeting = self._until_prompt()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._child.close(force=True)

    def enter(self, line: str) -> str:
        """Enter a line, and return what is printed before the next prompt."""
        self._child.sendline(line)
        self._line += 1
        return self._until_prompt()

    def exit(self, timeout: float) -> str:
        """Enter ``exit()``, and wait until the process is gone; return what it printed."""
        self._child.sendline("exit()")
        self._child.expect(pexpect.EOF, timeout=timeout)
        self._child.wait()
        return str(self._child.before)

    def _until_prompt(self) -> str:
        self._child.expect_exact(f"In [{self._line}]: ")
        return str(self._child.before)
