"""Numbers to Markdown."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under a heading; ``note`` stands below."""

    title: str
    columns: tuple
    rows: list
    note: str = ""

    def markdown(self):
        """The table, its first column to the left and the others to the right."""
        lines = [self.columns, ("---", *["---:"] * (len(self.columns) - 1))]
        lines += [[_cell(value) for value in row] for row in self.rows]
        body = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
        return "\n\n".join(filter(None, (f"**{self.title}**", body, self.note))) + "\n"


def _cell(value):
    if value is None:
        return "-"
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.{max(0, 3 - _digits(value))}f}"


def _digits(value):
    """Before the decimal point: three significant digits are enough, none are lost above."""
    return len(str(int(abs(value)))) if abs(value) >= 1 else 0
