r"""Networks made of other networks.

Several of them act as one (`ensemble`), that of a step of a series is added up over all of them
(`over_time`), one in training stands beside one that is known (`offset`), and a quadratic in the
parameters is taken off one (`correction`). A network may compare two parameter vectors (`pairs`),
and be averaged over known ones to compare with (`over_references`).
"""
