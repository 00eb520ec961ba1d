"""All contestants, wherever they live."""

from worker import ContestantError, Worker


class Contestants:
    """Starts every process of contestants and passes orders to whoever knows the name."""

    def __init__(self, python, neighbors, folder):
        self.workers = []
        scripts = [(python, ("contestants_ours.py", folder), {})]
        if neighbors:
            bayesflow = "contestants_bayesflow.py"
            scripts += [
                (neighbors, ("contestants_sbi.py", folder), {}),
                (neighbors, (bayesflow, folder, "notebook"), {"KERAS_BACKEND": "torch"}),
                (neighbors, (bayesflow, folder, "notebook"), {"KERAS_BACKEND": "jax"}),
                (neighbors, (bayesflow, folder, "neural"), {"KERAS_BACKEND": "jax"}),
            ]
        self.starts = [
            lambda python=python, script=script, environment=environment: Worker(
                python, *script, log=folder / "contestants.log", **environment
            )
            for python, script, environment in scripts
        ]

    def __enter__(self):
        self.workers = [start() for start in self.starts]
        self.known = [worker.ask("describe") for worker in self.workers]
        return self

    def __exit__(self, *exception):
        for worker in self.workers:
            worker.__exit__(*exception)

    def names(self, kind):
        """Of all ``evaluators``, ``samplers`` or ``trainers``."""
        return [name for known in self.known for name in known[kind]]

    def libraries(self):
        """Versions, one line for each environment."""
        lines = {}
        for known in self.known[1:]:
            lines |= {name: version for name, version in known["libraries"].items() if version}
        return ", ".join(f"{name} {version}" for name, version in sorted(lines.items()))

    def ask(self, kind, name, do, **arguments):
        """Pass an order on."""
        worker = self._where(kind, name)
        return self.workers[worker].ask(do, name=name, **arguments)

    def alone(self, kind, name, do, **arguments):
        """The same in a fresh process."""
        with self.starts[self._where(kind, name)]() as worker:
            return worker.ask(do, name=name, **arguments)

    def try_each(self, kind, names, do, say, **arguments):
        """Answers of those that have one; what fails is said and left out."""
        answers = {}
        for name in names:
            try:
                answers[name] = self.ask(kind, name, do, **arguments)
            except ContestantError as error:
                say(f"{name}: {error}")
        return answers

    def _where(self, kind, name):
        return next(i for i, known in enumerate(self.known) if name in known[kind])
