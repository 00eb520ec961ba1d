r"""Series: a step that depends on the last values, and what it makes when it is repeated.

Where the next value depends on the last k values and the parameters alone, the likelihood of a
series is a product of transitions,

.. math:: p(x_{1:T} \mid \theta) = p(x_{1:k} \mid \theta) \prod_{t > k}
    p(x_t \mid x_{t-k:t-1}, \theta),

and a ratio of one transition, with the past as a condition, is summed over the series. Within one
simulated series the past tells of the parameters, as its spread does. Contrasts that exchange the
parameters of such transitions would learn :math:`p(past \mid \theta) / p(past)` too, and count it
at every step. So transitions are simulated one by one from pasts that were drawn independently of
the parameters: whatever pasts these are, the ratio is

.. math:: r = \frac{p(x, past \mid \theta)}{p(x, past)} = \frac{p(x \mid past, \theta)}
    {\int p(x \mid past, \theta') \, p(\theta') \, d\theta'}.

`cuts` makes next values and their pasts of series, and `steps` repeats a step, to make whole series
and to go on from observed ones.
"""
