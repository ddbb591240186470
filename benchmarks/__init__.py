"""Benchmarks of pml_nmlayer: `python -m benchmarks run`, and `--help` names the others.

A suite is a YAML file in `configs`. Its plan is a list of specs (plain JSON); each spec is
run once by a worker process and leaves a raw result in `results`; reports are computed from
raw results alone. A method is one decorated function in `methods`.

A room imports from those above it alone (`tests/benchmarks/test_rooms.py` sees to it):

    registry, search, results, pool    names; random search; result files; processes
    datasets/      labelled sets by name, and their splits by protocol
    interface      what a method is, and how one registers
    training/      trunks, images, the one training loop, seeds
    methods/       every method of this repository, by name
    plugins        methods from outside: installed packages, files
    suites, suite_files    what a suite says; reading it from YAML
    running/       from a spec to a raw result
    specs          from a suite to its specs
    reporting/     from raw results to tables, figures, verdicts, a leaderboard; knows
                   nothing of `running`
    tuned_files    what a search leaves: the chosen settings, and all trials
    tuning         a search: runs, judged on validation queries
    validation     methods of a suite on validation queries, without a search
    outcomes       what a command says at its end
    commands, pieces, __main__    the command line
"""
