"""Files, processes and states: what has nothing to do with hashing."""
