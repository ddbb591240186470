"""Benchmarks of pml_nmlayer: `python -m benchmarks list | extract | tune | run | report`.

A suite is a YAML file in `configs`. Its plan is a list of specs (plain JSON); each spec is
run once by a worker process and leaves a raw result in `results`; reports are computed from
raw results alone. A method is one decorated function in `methods`.
"""
