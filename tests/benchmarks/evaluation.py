"""Microseconds per value and gradient, everybody in turn, round after round."""

from statistics import median

from tables import Table

SIZES = (10, 100, 1_000, 10_000)
ROUNDS = 9
SECONDS = 0.15  # for one contestant in one round
_OWN_TERMS = ("alone", "plain")  # without the model's prior, or with another likelihood


def run(context):
    """Tables of times and of times relative to our fastest engine in double precision."""
    sizes = SIZES[:2] if context.quick else SIZES
    rounds = 3 if context.quick else ROUNDS
    with context.contestants() as contestants:
        columns = [_at_size(contestants, n, rounds, context) for n in sizes]
        names, libraries = contestants.names("evaluators"), contestants.libraries()
    reference = next(name for name in names if name.startswith("pymc_nre"))
    times = [[name, *(column.get(name) for column in columns)] for name in names]
    ratios = [[name, *(_over(column, name, reference) for column in columns)] for name in names]
    heads = ("contestant", *(f"n = {n:,}" for n in sizes))
    return [
        Table("Microseconds per value and gradient", heads, times),
        Table(f"The same, in units of {reference}", heads, ratios, libraries),
    ]


def _at_size(contestants, n, rounds, context):
    """Microseconds by name."""
    names = contestants.names("evaluators")
    answers = contestants.try_each("evaluators", names, "prepare", context.say, n=n)
    _check(answers, context)
    times = {name: [] for name in answers}
    for _ in range(rounds):
        for name in answers:
            times[name].append(contestants.ask("evaluators", name, "time", seconds=SECONDS))
    context.record("evaluation", n=n, times=times)
    return {name: median(values) for name, values in times.items()}


def _over(column, name, reference):
    return column[name] / column[reference] if name in column else None


def _check(answers, context):
    """Nobody may be fast and wrong: gradients agree to single precision."""
    models = {
        name: answer["gradients"]
        for name, answer in answers.items()
        if not any(term in name for term in _OWN_TERMS)
    }
    reference = next(iter(models.values()))
    for name, gradients in models.items():
        worst = max(abs(a - b) for a, b in zip(gradients, reference, strict=True))
        size = max(map(abs, reference))
        if not worst < 1e-3 * size:
            raise AssertionError(f"{name} has other gradients: {worst:.3g} of {size:.3g}.")
        context.say(f"{name}: gradients within {worst / size:.1e}")
