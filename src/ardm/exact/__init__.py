"""Networks in integers: the same numbers on every machine, whatever adds them up, and in whatever order.

A *program* is a list of operations on integers (`program`); `arbiter` runs it by definition, in NumPy's int64; `machine`
runs it fast, on integers held in float32 or float64 where a certificate says that no sum leaves the exact range.
"""
