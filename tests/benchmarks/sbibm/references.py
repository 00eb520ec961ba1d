"""What was published: observations and draws of their posteriors, out of the wheel of sbibm.

The wheel is a zip archive. It is downloaded by pip, without its dependencies, and only read:
its code is never imported.
"""

import bz2
import io
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

_WHEEL = "sbibm==1.1.0"


class References:
    """Reads the wheel in a folder; downloads it there if it is not there yet."""

    def __init__(self, folder):
        self.folder = Path(folder)

    def observation(self, task, number):
        """One observation ``(E,)``, as published."""
        return _table(self._read(task, number, task.observation))[0]

    def draws(self, task, number):
        """Draws ``(10000, D)`` of the posterior, in the natural parameters."""
        packed = self._read(task, number, "reference_posterior_samples.csv.bz2")
        return _table(bz2.decompress(packed))

    def _read(self, task, number, name):
        folder = f"sbibm/tasks/{task.folder or task.name}/files/num_observation_{number}"
        with zipfile.ZipFile(wheel(self.folder)) as archive:
            return archive.read(f"{folder}/{name}")


@cache
def wheel(folder):
    """Path of the wheel."""
    found = sorted(folder.glob("sbibm-*.whl"))
    if not found:
        folder.mkdir(parents=True, exist_ok=True)
        download = ["pip", "download", "--no-deps", "--dest", str(folder), _WHEEL]
        subprocess.run([sys.executable, "-m", *download], check=True)
        found = sorted(folder.glob("sbibm-*.whl"))
    return found[-1]


def _table(text):
    """Numbers ``(rows, columns)`` of a CSV file with a header."""
    return np.loadtxt(io.BytesIO(text), delimiter=",", skiprows=1, ndmin=2)
