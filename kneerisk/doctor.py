"""What this machine can do for scoring, each finding with its remedy."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kneerisk.errors import KneeriskError, StackError
from kneerisk.machine import machine, usable_cpus, versions

if TYPE_CHECKING:
    from kneerisk.stack.stack import Stack


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    needed: bool
    """Whether scoring needs it."""
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Findings:
    """All of them."""

    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether ``kneerisk score`` can work here."""
        return all(check.ok for check in self.checks if check.needed)


def examine() -> Findings:
    """Look at the machine; starts nothing, writes nothing, asks no network."""
    return Findings((*_machine(), *_packages(), *_gpu(), *_tensorrt(), *_stacks()))


def _machine() -> Iterator[Check]:
    found = machine()
    yield Check("machine", True, False, f"{found['system']} {found['architecture']}, {found['processor']}")
    yield Check("CPUs", True, False, f"{usable_cpus()} usable of {found['cpus']}")
    free = shutil.disk_usage(".").free / 2**30
    yield Check(
        "disk", free > 1, False, f"{free:.0f} GiB free here", "free some space, or write --out elsewhere"
    )


def _packages() -> Iterator[Check]:
    found = versions()
    yield Check("kneerisk", True, True, f"{found['kneerisk']}, Python {found['python']}")
    for package, job in (
        ("openvino", "runs the networks on the CPU"),
        ("pydicom", "reads DICOM"),
        ("imagecodecs", "decodes JPEG, JPEG-LS, JPEG 2000"),
        ("opencv-python-headless", "resizes"),
        ("polars", "writes the table"),
    ):
        there = found[package]
        yield Check(
            package, there is not None, True, f"{there or 'missing'} ({job})", "pip install kneerisk again"
        )
    for module, job in (("gdcm", "malformed 12-bit JPEG"), ("rle", "fast RLE"), ("PIL", "draws --previews")):
        there_too = find_spec(module) is not None
        yield Check(
            module,
            there_too,
            False,
            f"{'found' if there_too else 'missing'} ({job})",
            "pip install kneerisk again",
        )
    yield Check(
        "torch", True, False, f"{found['torch'] or 'not installed'} (only for --backend torch and training)"
    )


def _gpu() -> Iterator[Check]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        yield Check("GPU", True, False, "no NVIDIA driver here; the CPU scores")
        return
    query = [tool, "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        yield Check(
            "GPU",
            False,
            False,
            f"the driver does not answer ({error})",
            "mend the driver, or score on the CPU",
        )
        return
    for line in answer.splitlines():
        yield Check("GPU", True, False, line)


def _stacks() -> Iterator[Check]:
    from kneerisk.stack.find import available_stacks
    from kneerisk.stack.stack import Stack

    names = available_stacks()
    if not names:
        yield Check("stacks", False, True, "none", "reinstall kneerisk, which ships the stack compact")
    for name, folder in names.items():
        try:
            stack = Stack.load(folder)
        except StackError as error:
            yield Check(f"stack {name}", False, True, "damaged", str(error))
        else:
            yield Check(f"stack {name}", True, True, f"{stack.name}, {stack.sha256[:12]}, verified")
            yield _runs(name, stack)
            yield _chosen(name, stack)


def _chosen(name: str, stack: Stack) -> Check:
    """What ``--backend auto`` takes for a stack, and why."""
    from kneerisk.compile.choice import choose
    from kneerisk.stack.components import PREDICTING

    choice = choose(stack, ("localiser", *PREDICTING))
    return Check(f"--backend auto for {name}", True, False, f"{choice.backend}: {choice.why}")


def _tensorrt() -> Iterator[Check]:
    """The flavours that can build or run engines here, and the engines that are kept."""
    from kneerisk_engines.errors import BackendUnavailableError
    from kneerisk_engines.tensorrt.cache import EngineCache
    from kneerisk_engines.tensorrt.flavour import FLAVOURS, open_flavour

    for flavour in FLAVOURS:
        try:
            found = f"{open_flavour(flavour).version} (compiles engines)"
        except BackendUnavailableError:
            found = "not installed (only for kneerisk compile and --backend tensorrt)"
        yield Check(flavour, True, False, found)
    cache = EngineCache()
    engines = list(cache.entries())
    verified = sum(engine.verified for engine in engines)
    yield Check("engines", True, False, f"{len(engines)} in {cache.root}, {verified} verified on a GPU")


def _runs(name: str, stack: Stack) -> Check:
    """Open the network that takes most of the time: what it runs in is what the rows will be."""
    from kneerisk.compile.open import open_network

    try:
        with open_network(stack, "unet") as runner:
            found = f"runs on {runner.backend} in {runner.precision}"
    except KneeriskError as error:
        return Check(f"networks of {name}", False, True, "cannot run", str(error))
    return Check(f"networks of {name}", True, True, found)
