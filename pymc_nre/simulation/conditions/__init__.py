r"""Known inputs of an observation, on the side of x.

A dose, a stimulus, a design or a previous state is given with each observation and is no
parameter. The ratio of an observation x under conditions c is

.. math:: r(x \mid \theta, c) = \frac{p(x \mid \theta, c)}{p(x \mid c)}
    = \frac{p(x, c \mid \theta)}{p(x, c)},

where conditions are drawn independently of the parameters. So it is the ratio of the pair (x, c),
and all that trains, evaluates and checks ratios sees that pair as one vector. `layout` packs it,
`designs` draws conditions for simulations, and `packing` makes a simulator of pairs.
"""
