"""Results on disk: a line of JSON for each, so that a benchmark that was killed goes on."""

import json
from pathlib import Path


class Results:
    """Records by the values of their keys.

    Parameters
    ----------
    path : path-like
        A file of lines, made when the first is written.
    keys : tuple of str
        What tells two records from each other; a later one replaces an earlier one.
    """

    def __init__(self, path, keys):
        self.path, self.keys = Path(path), tuple(keys)

    def read(self):
        """All records, by their keys; a line that a kill cut short is not one."""
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        records = filter(None, map(_parsed, lines))
        return {tuple(record[key] for key in self.keys): record for record in records}

    def get(self, compute, **which):
        """The record of these keys: read, or computed and written."""
        found = self.read().get(tuple(which[key] for key in self.keys))
        if found is None:
            found = which | compute()
            self._append(found)
        return found

    def _append(self, record):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        cut_short = self.path.exists() and not self.path.read_bytes().endswith(b"\n")
        with open(self.path, "a") as lines:
            lines.write("\n" * cut_short + json.dumps(record) + "\n")


def _parsed(line):
    try:
        return json.loads(line)
    except json.JSONDecodeError:
        return None
