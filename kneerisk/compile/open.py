"""The one door to a running network: a stack's component, opened on a backend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING

from kneerisk_engines.backends import Request, open_runner
from kneerisk_engines.errors import (
    BackendUnavailableError,
    EngineError,
    EngineMismatchError,
    NoEngineFoundError,
)

from kneerisk.errors import NoEngineError, StackError
from kneerisk.method.predict import ForwardPass, Stage
from kneerisk.stack.description import StackDescription
from kneerisk.stack.stack import Stack

if TYPE_CHECKING:
    from kneerisk_engines.runner import AskedPrecision, Runner
    from torch import nn


def open_network(
    stack: Stack,
    component: str,
    backend: str = "cpu",
    precision: AskedPrecision = "auto",
    *,
    device: str = "cpu",
    threads: int | None = None,
    parallel: int = 1,
) -> Runner:
    """Open one component: close the runner, or use it in a ``with``.

    Args:
        stack: whose component it is.
        component: its name.
        backend: one of :data:`kneerisk_engines.backends.BACKENDS`; torch is imported for ``torch`` alone.
        precision: a component that is ``float32_only`` runs in fp32 whatever is asked.
        device: see :class:`kneerisk_engines.backends.Request`, as for the next two.
        threads: of the CPU.
        parallel: calls that compute at once.

    Raises:
        NoEngineError: the backend or precision cannot run here, or a compiled engine is missing.
        StackError: the component is missing or cannot be opened.
    """
    entry = stack.component(component)

    def module() -> nn.Module:
        from kneerisk.models import build

        return build(component, dict(entry.config))

    request = Request(
        graph=stack.graph(component),
        spec=entry.spec,
        precision="fp32" if entry.float32_only else precision,
        threads=threads,
        parallel=parallel,
        device=device,
        module=module,
    )
    try:
        return open_runner(request, backend)
    except NoEngineFoundError as error:
        raise NoEngineError(f"{error}: {how_to_compile(stack)}") from error
    except (BackendUnavailableError, EngineMismatchError) as error:
        raise NoEngineError(str(error)) from error
    except EngineError as error:
        raise StackError(f"stack {stack.name} in {stack.folder}: {error}") from error


@contextmanager
def open_networks(
    stack: Stack,
    components: Iterable[str],
    backend: str = "cpu",
    precision: AskedPrecision = "auto",
    *,
    device: str = "cpu",
    threads: int | None = None,
    parallel: int = 1,
) -> Iterator[Mapping[str, Runner]]:
    """Several components, by name, as :func:`open_network` opens each; closed at the end."""
    with ExitStack() as kept:
        yield {
            name: kept.enter_context(
                open_network(
                    *(stack, name, backend, precision), device=device, threads=threads, parallel=parallel
                )
            )
            for name in components
        }


def forward_pass(
    description: StackDescription,
    runners: Mapping[str, Runner],
    stage: Stage = lambda name: nullcontext(),
) -> ForwardPass:
    """A stack's forward pass through its open networks.

    Args:
        description: of the stack.
        runners: those of :data:`kneerisk.stack.components.PREDICTING` and, to decode, ``decoder``.
        stage: see :class:`kneerisk.method.predict.ForwardPass`.
    """
    return ForwardPass(
        {name: runner.run for name, runner in runners.items()},
        micro_batch=description.micro_batch,
        grade_zooms=description.grade_zooms,
        stage=stage,
    )


def how_to_compile(stack: Stack) -> str:
    """The command that builds a stack's engines here, in the flavour that is installed."""
    from kneerisk_engines.tensorrt.flavour import installed_flavours

    flavour = installed_flavours()[0].name
    return f"build it with kneerisk compile --stack {stack.description.name} --flavour {flavour}"
