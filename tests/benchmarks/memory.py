"""Peak resident memory of one value and gradient over a million observations."""

from tables import Table
from worker import ContestantError

ROWS = 1_000_000


def run(context):
    """A table of megabytes above the data, everybody in a fresh process."""
    n = 100_000 if context.quick else ROWS
    with context.contestants() as contestants:
        rows = []
        for name in contestants.names("evaluators"):
            try:
                rows.append([name, contestants.alone("evaluators", name, "memory", n=n)])
            except ContestantError as error:
                context.say(f"{name}: {error}")
        libraries = contestants.libraries()
    context.record("memory", n=n, rows=rows)
    note = f"Above the same process after 10 observations. {libraries}"
    title = f"Peak memory of one value and gradient, {n:,} observations, above the data"
    return [Table(title, ("contestant", "MB"), rows, note)]
