"""All ten tasks, in alphabetical order."""

from . import bernoulli, gaussian, lotka_volterra, sir, slcp, two_moons

_MODULES = (bernoulli, gaussian, lotka_volterra, sir, slcp, two_moons)
TASKS = {
    task.name: task
    for task in sorted((task for module in _MODULES for task in module.TASKS), key=lambda t: t.name)
}
