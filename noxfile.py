"""The checks and chores of the project, one session each: ``nox --list`` shows them."""

import os
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from subprocess import DEVNULL, STDOUT, Popen
from urllib.request import urlopen

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.sessions = ["lint", "tests"]

PYTHONS = ["3.11", "3.12", "3.13"]
WORKERS = ["-n", "3", "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "0"]
"""A file at a time, since the tests of a file share what they set up; in the order of
``tests/conftest.py``, the long ones first. A test that ends its process is not tried in others.
Three for two processors: much of the time tests wait, for servers and for what is to time out."""


def pytest_with_coverage(session: nox.Session, *args: str) -> None:
    """Run pytest under coverage, which must start first, since pytest loads our plugin."""
    env = {"COVERAGE_FILE": str(Path.cwd() / f".coverage-{session.name}")}
    session.run("coverage", "erase", env=env)
    session.run("coverage", "run", "-m", "pytest", *WORKERS, *args, env=env)
    session.run("coverage", "combine", "--quiet", env=env)
    session.run("coverage", "report", env=env)


def run_tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest: ``nox -s tests -- -k journal``."""
    session.install("-e", ".[test]")
    session.run("pytest", *WORKERS, *session.posargs)


nox.session(run_tests, name="tests")  # on the Python that nox runs on
for python in PYTHONS:
    nox.session(run_tests, python=python, name=f"tests-{python}")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, or those named, and list the lines that none of them reaches."""
    session.install("-e", ".[test]")
    pytest_with_coverage(session, *session.posargs)


@nox.session
def programs(session: nox.Session) -> None:
    """Use the writer in the programs around it, while Tiled is down.

    blueapi, which pins many versions, has an environment of its own, and so have the packages of
    two facilities, apsbits and nslsii.
    """
    session.install("-e", ".[kafka,test-minimal,programs]", "bluesky-kafka")
    ours = ["-e", "."]
    blueapi = environment_beside(session, "blueapi", *ours, "blueapi==1.21.1", "ophyd")
    brought = ["apsbits==2.0.4", "nslsii==0.11.9", "pytest"]
    facilities = environment_beside(session, "facilities", *ours, *brought)
    env = {"BLUEAPI": str(blueapi.with_name("blueapi")), "FACILITIES": str(facilities)}
    session.run("pytest", *WORKERS, *(session.posargs or ["tests/programs"]), env=env)


@nox.session
def faults(session: nox.Session) -> None:
    """Try every fault at every request, and a hundred kills; ``tests`` has a selection."""
    session.install("-e", ".[test]")
    paths = session.posargs or [
        "tests/consumers",
        "tests/faults",
        "tests/writer/test_batching.py",
        "tests/delivery/test_model.py",
        "tests/delivery/test_recovery_fuzz.py",
    ]
    hangs = ["-o", "faulthandler_timeout=3600"]  # one of hypothesis may take long
    session.run("pytest", *hangs, *paths, env={"FAULTS": "long"})


@nox.session
def scale(session: nox.Session) -> None:
    """Kill consumers, servers and PostgreSQL in many rounds; ``tests`` has one round."""
    session.install("-e", ".[test]")
    hangs = ["-o", "faulthandler_timeout=3600"]
    session.run("pytest", *hangs, "tests/scale", *session.posargs, env={"FAULTS": "long"})


@nox.session
def soak(session: nox.Session) -> None:
    """Live a day at a beamline in an hour: tasks, visits, logins, restarts, readers."""
    session.install("-e", ".[test]")
    hangs = ["-o", "faulthandler_timeout=7200"]
    # pytest would keep every record of the log, with the connections that its errors refer to.
    hangs += ["-p", "no:logging"]
    session.run("pytest", *hangs, "tests/faults/test_soak.py", env={"SOAK": "3600"})


@nox.session
def tests_minimal(session: nox.Session) -> None:
    """Write and read runs without bluesky-tiled-plugins, and with a newer pandas.

    With coverage: these few tests reach most of what every run goes through.
    """
    session.install("-e", ".[test-minimal]")
    paths = [
        "test_tutorial.py",
        "test_pytest_plugin.py",
        "clients/test_readers.py",
        "sink/test_requests.py",
    ]
    paths = session.posargs or [f"tests/{path}" for path in paths]
    pytest_with_coverage(session, "-m", "not plugins", *paths)


OLD_SERVER = "0.2.10"
"""A Tiled server before 0.2.11, which keeps no order of rows and knows no ragged arrays."""
CORE = ["tests/test_tutorial.py", "tests/writer/test_streams.py"]
"""What every pair of client and server has to do."""


@nox.session
def old_servers(session: nox.Session) -> None:
    """Write runs with the newest Tiled client to the oldest server that we support."""
    session.install("-e", ".[test-minimal]")
    python = environment_beside(session, "server", f"tiled[server]=={OLD_SERVER}")
    with server_of(session, python) as uri:
        options = [f"--basetemp={session.create_tmp()}/tests"]
        paths = session.posargs or CORE
        session.run("pytest", *options, *paths, env={"TILED_SERVER": uri})
    session.run("pytest", "tests/sink/test_old_servers.py", env={"OLD_TILED": str(python)})


@nox.session
def oldest(session: nox.Session) -> None:
    """Write and read runs with the lowest Tiled client that we support, to a server of today.

    The server is in a process, and an environment, of its own.
    """
    requirements = nox.project.load_toml("pyproject.toml")["project"]["dependencies"]
    (tiled,) = (name for name in requirements if name.startswith("tiled"))
    packages = ["h5py", "hypothesis", "ophyd", "pillow", "pytest>=9.0", "tifffile"]
    session.install("-e", ".", tiled.replace(">=", "=="), *packages)
    python = environment_beside(session, "server", "--upgrade", "tiled[server]")
    with server_of(session, python) as uri:
        options = ["-m", "not plugins", f"--basetemp={session.create_tmp()}/tests"]
        paths = session.posargs or CORE
        session.run("pytest", *options, *paths, env={"TILED_SERVER": uri})


def environment_beside(session: nox.Session, name: str, *packages: str) -> Path:
    """Install packages into an environment beside that of a session; return its Python."""
    environment = Path(session.create_tmp()).resolve() / name
    python = environment / ("Scripts" if os.name == "nt" else "bin") / "python"
    base = Path(session.bin) / "python"
    session.run(
        "uv", "venv", "--clear", f"--python={base}", str(environment), external=True, silent=True
    )
    session.run("uv", "pip", "install", "--quiet", f"--python={python}", *packages, external=True)
    return python


@contextmanager
def server_of(session: nox.Session, python: Path) -> Iterator[str]:
    """Run the Tiled server of a Python; yield its address, with key."""
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    storage = Path(session.create_tmp(), "storage").resolve()
    shutil.rmtree(storage, ignore_errors=True)
    (storage / "data").mkdir(parents=True)
    log, catalog = storage / "log", str(storage / "catalog.db")
    session.run(str(python), "-m", "tiled", "catalog", "init", catalog, external=True, silent=True)
    written = [f"--write={storage / 'data'}", f"--write=sqlite:///{storage / 'tables.db'}"]
    options = [*written, "--api-key=secret", f"--port={port}"]
    command = ["-m", "tiled", "serve", "catalog", catalog, *options]
    with log.open("wb") as output:
        process = Popen([python, *command], stdin=DEVNULL, stdout=output, stderr=STDOUT)
    try:
        for _ in range(600):  # tries, at 0.1 s
            with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1):
                break
            if process.poll() is not None:
                session.error(f"The server ended at start:\n{log.read_text()}")
            time.sleep(0.1)
        else:
            session.error(f"The server does not answer:\n{log.read_text()}")
        yield f"http://127.0.0.1:{port}/api/v1?api_key=secret"
    finally:
        process.terminate()
        process.wait()


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, types and the direction of imports."""
    session.install("-e", ".[lint]")
    session.run("ruff", "check")
    session.run("ruff", "format", "--check")
    session.run("mypy")
    session.run("lint-imports")


@nox.session(name="format")
def format_(session: nox.Session) -> None:
    """Format the code and fix what ruff can fix."""
    session.install("ruff>=0.12")
    session.run("ruff", "check", "--fix-only")
    session.run("ruff", "format")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build; its tutorials are executed."""
    session.install("-e", ".[docs]")
    options = ["-W", "--keep-going", "-b", "html"]
    session.run("sphinx-build", *options, *session.posargs, "docs", "docs/_build/html")


@nox.session
def demo(session: nox.Session) -> None:
    """Run a simulated scan into a Tiled server; stay up with ``nox -s demo -- --serve``."""
    session.install("-e", ".[demo]")
    session.run("python", "docs/examples/demo.py", *session.posargs)


@nox.session
def package(session: nox.Session) -> None:
    """Build the distributions, check them, and use the wheel where nothing else is installed."""
    session.install("build", "twine")
    shutil.rmtree("dist", ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", "dist", silent=True)
    distributions = sorted(map(str, Path("dist").iterdir()))
    session.run("twine", "check", "--strict", *distributions)
    (wheel,) = (path for path in distributions if path.endswith(".whl"))
    empty = Path(session.create_tmp(), "empty").resolve()
    session.run("uv", "venv", "--clear", str(empty), external=True, silent=True)
    python = str(empty / ("Scripts" if os.name == "nt" else "bin") / "python")
    session.run("uv", "pip", "install", "--quiet", f"--python={python}", wheel, external=True)
    wheel_works = (
        "import bluesky_tiled_writer, sys;"
        " assert 'tiled.server' not in sys.modules, 'the client needs no server'"
    )
    session.run(python, "-c", wheel_works, external=True)
    session.run(python, "-m", "bluesky_tiled_writer", "--version", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Run every benchmark, or those named: ``nox -s bench -- benchmarks/bench_scan.py``."""
    session.install("-e", ".[bench]")
    for path in session.posargs or sorted(map(str, Path("benchmarks").glob("bench_*.py"))):
        session.run("python", path)
