"""ONNX: one graph from a batch to packed codes.

A server needs onnxruntime alone. `pip install "pml-nmlayer[onnx]"` brings what this script
needs.
"""

import onnxruntime
import torch
from sklearn.datasets import load_digits
from torch import nn

from pml_nmlayer import HashEncoder, Hasher
from pml_nmlayer.retrieval import export_onnx

x = torch.tensor(load_digits().data).float()
hasher = Hasher(bits=24, random_state=0).fit(x)
encoder = HashEncoder(nn.Identity(), hasher.module_)
export_onnx(encoder, x[:1], "hasher.onnx")

session = onnxruntime.InferenceSession("hasher.onnx")
(codes,) = session.run(["codes"], {"x": x.numpy()})
agree = (codes == hasher.encode(x)).mean()
print(f"{codes.shape[1]} bytes an item; {agree:.4f} of them equal those of torch")
assert agree > 0.999  # bits of which the output lies within rounding of 0 may differ
