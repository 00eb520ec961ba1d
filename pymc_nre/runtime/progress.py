"""One look for all progress displays: what is done, how fast, how long still; and remarks."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

__all__ = ["progress", "say"]


def progress(*, enabled: bool) -> Progress:
    """A `rich` display whose tasks have a field ``status``, shown at the end of their line."""
    return Progress(  # 80 columns hold all of it
        TextColumn("{task.description}"),
        BarColumn(bar_width=10),
        MofNCompleteColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=True),
        TextColumn("{task.fields[status]}"),
        disable=not enabled,
    )


def say(text: str) -> None:
    """Print a remark."""
    Console().print(text, highlight=False)
