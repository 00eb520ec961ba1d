"""Where log ratios of many data sets are highest, all of them at once.

`summed` adds log ratios up over trials, with derivatives; `coordinates` make the training domain a
space without edges, in which `bfgs` climbs; `search` begins at many places and ends at one.
"""
