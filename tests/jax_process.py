"""One other process for what needs JAX.

JAX starts threads on import, which forks of the process of the tests (other tests fork) would
not survive. There warnings are errors too, and numbers are double.

Half of the time goes to XLA's optimizations. What asks what we give to JAX can do without them.
"""

import multiprocessing
import warnings
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager


@contextmanager
def process_with_jax(optimized=True):
    """Give a function that calls a function there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, context, _start, (optimized,)) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


def _start(optimized):
    import jax

    warnings.simplefilter("error")
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", not optimized)
