"""C2ST as others published it, means over observations 1 to 10, at 1e3, 1e4 and 1e5 simulations.

NRE (that is NRE-B with ten candidates) and SNRE, its sequential form, are from the results of the
benchmark itself (Lueckmann et al. 2021, arXiv:2101.04653); NRE-C was computed from the result
files of Miller et al. 2022, arXiv:2210.06170 (99 candidates, gamma 1, all seeds). The best are of
any method, some of them sequential: from the benchmark's results, or read off the figures of
Gloeckler et al. 2024, arXiv:2404.09636, which makes them good to about .01.
"""

BUDGETS = (1_000, 10_000, 100_000)
METHODS = ("NRE", "SNRE", "NRE-C", "best published")

_TABLE = """
bernoulli_glm           .899/.812/.751 .718/.584/.529 .804/.695/.605 .634/.553/.522
bernoulli_glm_raw       .915/.834/.777 .880/.675/.552 .928/.773/.636 .870/.658/.552
gaussian_linear         .672/.560/.536 .670/.536/.515 .636/.558/.519 .538/.505/.499
gaussian_linear_uniform .788/.706/.631 .681/.606/.536 .727/.640/.552 .631/.527/.506
gaussian_mixture        .777/.748/.735 .673/.578/.531 .749/.748/.736 .547/.515/.502
lotka_volterra          1.00/.998/.996 .971/.848/.831 .998/.984/.970 .909/.738/.695
sir                     .841/.770/.690 .637/.646/.547 .783/.723/.681 .637/.561/.547
slcp                    .972/.947/.919 .968/.917/.721 .971/.904/.771 .831/.620/.538
slcp_distractors        .980/.968/.953 .981/.974/.766 .980/.957/.789 .978/.931/.766
two_moons               .822/.761/.629 .651/.582/.563 .700/.595/.542 .570/.513/.502
"""


def published():
    """C2ST by task, method and budget."""
    rows = (line.split() for line in _TABLE.split("\n") if line)
    return {
        task: {
            method: dict(zip(BUDGETS, map(float, cells.split("/")), strict=True))
            for method, cells in zip(METHODS, columns, strict=True)
        }
        for task, *columns in rows
    }
