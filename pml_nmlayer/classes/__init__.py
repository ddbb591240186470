"""Classes and codes: codebooks, codewords, the class read-out and its objectives."""
