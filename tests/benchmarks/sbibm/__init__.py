"""The sbibm tasks: how good are posteriors of one amortized ratio?

Ten problems whose posteriors are known by 10,000 draws each (Lueckmann et al. 2021,
arXiv:2101.04653). The simulators here are our own; observations and reference draws are read
from the wheel that the authors published, which is never imported.
"""
