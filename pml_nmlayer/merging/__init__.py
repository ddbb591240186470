"""The NMLayer: a graph of redundant bits, its partition, and the merge."""
