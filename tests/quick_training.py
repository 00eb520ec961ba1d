"""Trainings of a few epochs."""

import pymc_nre as nre

TASK = nre.tasks.GaussianMean()


def quick(simulations, **options):
    return nre.train(
        simulations, **{"epochs": 3, "random_seed": 1, "progressbar": False, **options}
    )
