"""Two devices; programs dropped between modules; compilations counted; Ctrl-C at a given call."""

import gc
import os
import signal
from contextlib import contextmanager

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


@pytest.fixture(autouse=True, scope="module")
def compiled_programs_are_dropped():
    """Every compiled program holds memory maps, of which a process may have some 65,000.

    The whole suite in one process comes to that, and XLA's compiler dies without a word.
    """
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def interrupt_at_second_call(monkeypatch):
    """``interrupt(module, name)``: a real Ctrl-C as the function is called for the second time."""

    def interrupt(module, name):
        real, calls = getattr(module, name), []

        def interrupted(*args, **kwargs):
            calls.append(1)
            if len(calls) == 2:
                signal.raise_signal(signal.SIGINT)
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, interrupted)
        return calls

    return interrupt


COMPILED = []
jax.monitoring.register_event_duration_secs_listener(
    lambda event, _, **__: COMPILED.append(event) if "backend_compile" in event else None
)


@pytest.fixture
def compilations():
    """``with compilations() as count``: what XLA compiled inside, one entry a program."""

    @contextmanager
    def counted():
        count, before = [], len(COMPILED)
        yield count
        count += COMPILED[before:]

    return counted
