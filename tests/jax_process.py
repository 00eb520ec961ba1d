"""One other process for what needs JAX.

JAX starts threads on import, which forks of the process of the tests (other tests fork) would
not survive. There warnings are errors too, and numbers are double.
"""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_with_jax():
    """Give a function that calls a function there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, initializer=_start) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _start():
    import jax

    warnings.simplefilter("error")
    jax.config.update("jax_enable_x64", True)
