"""A hostile JAX: two devices, and no silent change of rank."""

import gc
import os

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
