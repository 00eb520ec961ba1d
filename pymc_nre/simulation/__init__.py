r"""Pairs of parameters and observations, which is all that training sees.

A prior :math:`p(\theta)` is drawn from (`prior`), a simulator run at each draw (`simulator`,
`execution`), and the pairs kept by name (`simulations`). What a user calls parameters may be some
of the prior's variables only: the others are nuisance, drawn with them and forgotten, which
marginalizes over them (`joint`). Fresh pairs for every epoch come from `online`.

Inside the library parameters travel packed, one row of numbers for each draw; `parameters` is the
only place that converts between rows and names.
"""
