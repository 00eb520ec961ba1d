"""Seconds per epoch of NRE-C with five candidates: same network, batches and simulations."""

from statistics import median

from tables import Table

BATCHES = (256, 1_024)
EPOCHS = (1, 5)  # the difference leaves out what is done once


def run(context):
    """A table of seconds per epoch."""
    batches = BATCHES[:1] if context.quick else BATCHES
    rounds = 1 if context.quick else context.rounds
    with context.contestants() as contestants:
        names, libraries = contestants.names("trainers"), contestants.libraries()
        for name in names:  # what is done in the first call only
            contestants.ask("trainers", name, "train", batch=256, epochs=1, quick=True)
        measured = {name: {batch: [] for batch in batches} for name in names}
        for batch in batches:
            for _ in range(rounds):
                for name in names:
                    seconds = _seconds_per_epoch(contestants, name, batch, context)
                    measured[name][batch].append(seconds)
                    context.say(f"{name}, batch {batch}: {seconds:.2f} s per epoch")
    context.record("training", measured=measured)
    ours = measured[names[0]]
    rows = []
    for name, by_batch in measured.items():
        middle = [median(values) for values in by_batch.values()]
        relative = [a / median(b) for a, b in zip(middle, ours.values(), strict=True)]
        rows.append([name, *middle, *relative])
    heads = [f"batch {batch:,}: seconds" for batch in batches]
    heads += [f"batch {batch:,}: in units of ours" for batch in batches]
    return [Table("Seconds per epoch, one thread", ("contestant", *heads), rows, libraries)]


def _seconds_per_epoch(contestants, name, batch, context):
    few, many = (
        contestants.ask("trainers", name, "train", batch=batch, epochs=epochs, quick=context.quick)
        for epochs in EPOCHS
    )
    return (many["seconds"] - few["seconds"]) / (many["epochs"] - few["epochs"])
