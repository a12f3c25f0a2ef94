"""Plans whose documents go through this writer and through others, for comparison."""

from __future__ import annotations

from typing import Any

import bluesky.plan_stubs as bps
import bluesky.plans as bp
import bluesky.preprocessors as bpp
from documents import Document, data_key
from ophyd.sim import SynAxis, SynGauss


class Camera(SynGauss):
    """A detector whose gain is part of its configuration."""

    def __init__(self) -> None:
        self.gain = 2.5
        self.motor = SynAxis(name="motor")
        super().__init__("camera", self.motor, "motor", center=0, Imax=1, sigma=1)

    def read_configuration(self) -> Document:
        gain = {"camera_gain": {"value": self.gain, "timestamp": 0.5}}
        return {**super().read_configuration(), **gain}

    def describe_configuration(self) -> Document:
        return {**super().describe_configuration(), "camera_gain": data_key()}

    def configure(self, d: Document) -> tuple[Document, Document]:
        before = self.read_configuration()
        self.gain = d["gain"]
        return before, self.read_configuration()


def scan() -> Any:
    camera = Camera()
    return bp.scan([camera], camera.motor, -1, 1, 5)


def count() -> Any:
    camera = Camera()
    return bpp.baseline_wrapper(bp.count([camera], num=3), [camera.motor])


def by_hand() -> Any:
    motor = SynAxis(name="motor", value=0.5)

    @bpp.run_decorator(md={"plan_name": "by hand"})
    def plan() -> Any:
        yield from bps.trigger_and_read([motor], name="first")
        yield from bps.mv(motor, 1.5)
        yield from bps.trigger_and_read([motor], name="second stream")
        yield from bps.trigger_and_read([motor], name="first")

    return plan()


def reconfigured() -> Any:
    camera = Camera()

    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.trigger_and_read([camera])
        yield from bps.configure(camera, {"gain": 7.5})
        yield from bps.trigger_and_read([camera])

    return plan()


def failing() -> Any:
    motor = SynAxis(name="motor")

    @bpp.run_decorator()
    def plan() -> Any:
        yield from bps.trigger_and_read([motor])
        raise RuntimeError("out of beam")

    return plan()
