"""Processes that wait for orders: one JSON line in, one JSON line out.

Contestants live in processes of their own, some in other environments, and stay there while
the runner goes round and round them. Only one of them works at any time.
"""

import json
import os
import subprocess
import sys
import traceback
from pathlib import Path

HERE = Path(__file__).parent
ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"),
    "1",
) | {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}


class ContestantError(RuntimeError):
    """What went wrong in another process: the traceback, and the error's first line."""

    def __init__(self, text, reason=""):
        super().__init__(text)
        self.reason = reason


class Worker:
    """The runner's end of a process."""

    def __init__(self, python, script, *arguments, log, **environment):
        command = [str(python), str(HERE / script), *map(str, arguments)]
        with open(log, "a") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=Path(log).parent,  # some libraries leave logs where they are
                env=os.environ | ONE_THREAD | environment,
            )

    def ask(self, do, **arguments):
        """The answer to one order."""
        self.process.stdin.write(json.dumps({"do": do, "with": arguments}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise ContestantError(f"The process ended with status {self.process.wait()}.")
        reply = json.loads(line)
        if "error" in reply:
            raise ContestantError(reply["error"], reply["reason"])
        return reply["answer"]

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.process.stdin.close()
        self.process.wait()


def serve(orders):
    """The other end: answer until the runner hangs up.

    Libraries print what they like; that goes to the log, not between the answers.
    """
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        try:
            reply = {"answer": orders[order["do"]](**order["with"])}
        except Exception as error:
            reason = str(error).split("\n", 1)[0]
            reply = {"error": traceback.format_exc(), "reason": reason}
        print(json.dumps(reply), file=replies, flush=True)
