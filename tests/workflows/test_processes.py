"""Chains in processes: PyMC forks them on Linux, and torch's threads do not survive a fork.

Each case runs in a process of its own with a time limit, since what it guards against is a
chain that waits for ever.
"""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

import pytest

TIME_LIMIT = 300  # seconds; it takes 30 to 60, most of it imports and compilation

SCRIPT = """
    import numpy as np, pymc as pm, torch, pymc_nre as nre
    from pymc_nre.ops import torch_ops as ops

    def main():
        torch.set_num_threads(2)  # the thread pool whose absence hangs forked children
        task = nre.tasks.GaussianMean()
        ratio = nre.train(task.simulate(2_000, random_seed=1), epochs=2, random_seed=1,
                          progressbar=False)
        {setup}
        x = np.random.default_rng(1).normal(1.0, 1.0, 20_000)
        with pm.Model():
            mu = pm.Normal("mu", 0, 2)
            nre.RatioLikelihood("x", ratio, mu=mu, observed=x, engine="{engine}")
            idata = pm.sample(tune=10, draws=10, chains=2, random_seed=1, progressbar=False,
                              compute_convergence_checks=False, nuts_sampler="pymc", {options})
        assert idata["posterior"]["mu"].shape == (2, 10)
        print("sampled")

    if __name__ == "__main__":
        main()
"""


def run(tmp_path, setup="", options="", time_limit=TIME_LIMIT, engine="torch"):
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT).format(setup=setup, options=options, engine=engine))
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=time_limit)
        finally:  # hung chains too, which would outlive their parent
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


# PyMC takes as many processes as there are cores and chains; "cores=2" also where there is one.
@pytest.mark.parametrize(
    "options", ["", "cores=2", "cores=2, mp_ctx='forkserver'", "cores=2, step=pm.Slice()"]
)
def test_sampling_right_after_training_does_not_hang(tmp_path, options):
    done = run(tmp_path, options=options)
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "sampled" in done.stdout


def test_the_compiled_engine_samples_right_after_training(tmp_path):
    done = run(tmp_path, options="cores=2", engine="compiled")
    assert done.returncode == 0, done.stderr[-3_000:]
    assert "sampled" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks on this system")
def test_twin_without_the_cure_hangs(tmp_path):
    # The same run with the cure taken out shows that the tests above can fail. How long is
    # long enough is told by a first run with the cure.
    done = run(tmp_path, options="cores=2, mp_ctx='fork'")
    assert done.returncode == 0, done.stderr[-3_000:]
    with pytest.raises(subprocess.TimeoutExpired):
        run(
            tmp_path,
            setup="ops.make_torch_survive_forks = lambda: None",
            options="cores=2, mp_ctx='fork'",
            time_limit=60,
        )
