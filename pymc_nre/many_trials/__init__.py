r"""What happens to a ratio's small errors when thousands of trials share their parameters.

An error in the mean of a ratio's score is the same in every trial and grows with their number
(`pymc_nre.estimators.trial_budgets` measures how many trials a ratio bears). `centering` makes it
bear more: by training on, everywhere, with a penalty (`fine_tuning`), or around one posterior
(`local`).
"""
