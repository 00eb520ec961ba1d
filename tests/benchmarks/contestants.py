"""All contestants, wherever they live."""

from worker import ContestantError, Worker


class Contestants:
    """Starts every process of contestants and passes orders to whoever knows the name."""

    def __init__(self, python, neighbors, setu, folder):
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
        if setu:
            scripts.append((setu, ("contestants_setu.py", folder), {}))
        self.scripts, self.log = scripts, folder / "contestants.log"

    def __enter__(self):
        self.workers = [self._start(script) for script in self.scripts]
        self.known = [worker.ask("describe") for worker in self.workers]
        return self

    def __exit__(self, *exception):
        for worker in self.workers:
            worker.__exit__(*exception)

    def names(self, kind):
        """Of all ``evaluators``, ``samplers`` or ``trainers``."""
        return [name for known in self.known for name in known[kind]]

    def libraries(self):
        """What the neighbors are made of, in a sentence: versions of each environment."""
        lines = {}
        for (python, *_), known in zip(self.scripts[1:], self.known[1:], strict=True):
            lines.setdefault(python, {}).update(known["libraries"])
        lists = [
            ", ".join(f"{name} {version}" for name, version in sorted(of.items()) if version)
            for of in lines.values()
        ]
        return f"Neighbors: {'; '.join(lists)}." if lists else ""

    def ask(self, kind, name, do, **arguments):
        """Pass an order on."""
        worker = self._where(kind, name)
        return self.workers[worker].ask(do, name=name, **arguments)

    def alone(self, kind, name, do, **arguments):
        """The same in a fresh process."""
        with self._start(self.scripts[self._where(kind, name)]) as worker:
            return worker.ask(do, name=name, **arguments)

    def try_each(self, kind, names, do, say, failures=None, **arguments):
        """Answers of those that have one; what fails is said, left out, and put to ``failures``."""
        answers = {}
        for name in names:
            try:
                answers[name] = self.ask(kind, name, do, **arguments)
            except ContestantError as error:
                say(f"{name}: {error}")
                if failures is not None:
                    failures[name] = error.reason
        return answers

    def _start(self, script):
        python, arguments, environment = script
        return Worker(python, *arguments, log=self.log, **environment)

    def _where(self, kind, name):
        return next(i for i, known in enumerate(self.known) if name in known[kind])
