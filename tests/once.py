"""What takes long is made once for all workers of a test run: one makes it, the others wait.

A fixture of a module is made by every worker that gets some of its tests, and idle workers take
tests of others.
"""

import json
import os
import time

from pymc_nre.runtime.lock import owned

__all__ = ["once"]


def once(tmp_path_factory, name, make):
    """What ``make()`` gives, which JSON can hold.

    Whoever waits costs no time of the processor; where the maker fails or dies, the next one makes.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # each worker has one inside of it
    path = folder / f"{name}.json"
    while True:
        try:
            with owned(path, name):
                if not path.exists():
                    text = json.dumps(make())
                    path.write_text(text)
                return json.loads(path.read_text())
        except RuntimeError as error:
            if "is in use by" not in str(error):
                raise
            time.sleep(0.2)
