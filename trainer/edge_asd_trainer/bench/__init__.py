"""Speeds as ratios: ours and its peers', one after the other in one run on one machine (`make bench`).

A measurement is a function of an `Effort` that returns rows (`measurement`); the `catalogue` names them all, and
`__main__` runs them and keeps docs/benchmarks.md (`page`).
"""
