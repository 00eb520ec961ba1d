"""Simulate, train, keep what is likely, and simulate again: all simulations for one data set.

`study` has the data set, its prior and its simulator; `particles` draws from a prior that is bent
towards the data, `kept` says which parameters are kept, and `proposals` what a round is drawn from,
with its density. `rounds` runs them, `records` keeps their simulations on disk, and `report` tells
what came of it.
"""
