"""What training sees: batches of pairs, and what may stand beside them or be missing from them.

`batches` shuffles pairs and holds some out, `points` deals those of simulations with several
points, `masks` makes holes in observations, and `contrasts` draws candidates near the true
parameters. The last two wrap other batches and are batches themselves, as `changed` says. `choice`
says whether simulations are fit for them, and `density` what the prior says of them.
"""
