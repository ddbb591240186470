"""Hash heads: what stands where a PML trainer has its embedder."""
