"""The machine in words."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def describe():
    """Processor, cores, Python and the libraries of this process's environment."""
    names = ("pymc_nre", "pymc", "pytensor", "numba", "torch", "numpy")
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{_processor()}, {cores} cores, {platform.system()}, Python "
        f"{platform.python_version()}, {libraries}"
    )


def _processor():
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor() or platform.machine()
    lines = info.read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
