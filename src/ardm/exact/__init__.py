"""Networks in integers: the same numbers on every machine, whatever the order of summation.

A *program* is a list of operations on integers (`program`), with a *certificate* that no sum leaves the exact range
(`certificate`).  `reference` interprets it in NumPy by the definitions of `operations`; `backend` runs it in PyTorch
with `kernels`.  `ask` is the contract of both.  `model` adds the orders of coding and a file.
"""
