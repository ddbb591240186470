"""Every public entry x bad input -> the error's text. None is silent."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from pml_nmlayer.codes import pack_codes
from pml_nmlayer.hooks import RandomState, checkpointed, load_checkpoint, save_checkpoint
from pml_nmlayer.retrieval import (
    HashEncoder,
    HashIndex,
    bit_strings_to_codes,
    codes_to_bit_strings,
    codes_to_hex,
    codes_to_signed_bytes,
    codes_to_words,
    export_onnx,
    export_program,
    hex_to_codes,
    read_codes,
    signed_bytes_to_codes,
    words_to_codes,
)
from pml_nmlayer.runtime.atomic import atomic_write

from .hash_index_cases import filled, random_codes

V, T = ValueError, TypeError
CODES = random_codes(10, 12)
PACKED = pack_codes(CODES)
X = torch.randn(10, 6, generator=torch.Generator().manual_seed(0))
SOFT = CODES.float()
NAN, INF = float("nan"), float("inf")


@functools.cache
def shared_flat():
    return filled("flat", CODES)


def flat():
    return filled("flat", CODES)


def named():
    return filled("flat", CODES, [f"item {i}" for i in range(10)])


def encoder(**options):
    torch.manual_seed(0)
    return HashEncoder(nn.Identity(), nn.Linear(6, 12), **options)


def search(codes=CODES, k=1, **options):
    return lambda path: shared_flat().search(codes, k, **options)


def soft(embeddings=SOFT, k=1, **options):
    return lambda path: shared_flat().search_asymmetric(embeddings, k, **options)


def add(codes, ids=None, make=flat):
    return lambda path: make().add(codes, ids)


def encode(data, **options):
    return lambda path: encoder(**options).encode(data)


def to_file(data, name="codes.npy", **options):
    return lambda path: encoder(**options).encode_to_file(data, path / name)


def made(**options):
    return lambda path: encoder(**options)


def index(*arguments, **options):
    return lambda path: HashIndex(*arguments, **options)


def text_file(path, name="file"):
    (path / name).write_text("something else")
    return path / name


def loaded(path, **parts):
    save_checkpoint(path / "c.pt", model=nn.Linear(2, 2), both={"a": nn.Linear(2, 2)}, n=3)
    return load_checkpoint(path / "c.pt", **parts)


def both(part=None):
    return {"a": nn.Linear(2, 2) if part is None else part}


def checkpoint_of(path, content, **options):
    torch.save(content, path / "m.pt")
    return HashEncoder.from_checkpoint(
        nn.Identity(), nn.Linear(6, 12), path / "m.pt", **options
    )


CELLS = {
    "HashIndex": {
        "bits=0": (index(0), V, "bits must be at least 1, got 0"),
        "bits=-3": (index(-3), V, "bits must be at least 1, got -3"),
        "bits=2.0": (index(2.0), T, "bits must be a whole number, got 2.0"),
        "bits=NaN": (index(NAN), T, "bits must be a whole number, got nan"),
        "bits=True": (index(True), T, "bits must be a whole number, got True"),
        "bits=np.True_": (index(np.True_), T, "bits must be a whole number"),
        "bits='48'": (index("48"), T, "bits must be a whole number, got '48'"),
        "bits=10**12": (index(10**12), V, "bits must be at most 1048576"),
        "kind=None": (index(8, None), V, "kind must be one of flat, ivf, .* got None"),
        "kind a list": (index(8, ["flat"]), V, "kind must be one of"),
        "nlist=0": (index(8, "ivf", nlist=0), V, "nlist must be at least 1"),
        "nlist=1e9": (index(8, "ivf", nlist=10**9), V, "nlist must be at most"),
        "nprobe=1.5": (index(8, "ivf", nprobe=1.5), T, "nprobe must be a whole number"),
        "links=True": (index(8, "hnsw", links=True), T, "links must be a whole number"),
        "links=10**6": (index(8, "hnsw", links=10**6), V, "links must be at most 1024"),
        "ef huge": (index(8, "hnsw", ef_construction=10**9), V, "ef_construction must be"),
        "nhash=0": (index(8, "multihash", nhash=0), V, "nhash must be at least 1"),
        "nflip=-1": (index(8, "multihash", nflip=-1), V, "nflip must be at least 0"),
        "another": (index(8, metric="l2"), V, "kind='flat' has no option metric"),
    },
    "HashIndex.train": {
        "flat": (lambda p: flat().train(CODES), V, "needs no training"),
        "few": (lambda p: HashIndex(12, "ivf").train(CODES), V, "256 cells .* got 10"),
        "reals": (lambda p: HashIndex(6, "ivf").train(X), V, "-1 and \\+1 only"),
    },
    "HashIndex.add": {
        "reals": (add(torch.rand(2, 12)), V, "-1 and \\+1 only; pass binarize"),
        "0 and 1": (add((CODES > 0).float()), V, "-1 and \\+1 only"),
        "NaN": (add(torch.full((1, 12), NAN)), V, "-1 and \\+1 only"),
        "bool": (add(CODES > 0), T, "signed dtype, or packed uint8 .* got torch.bool"),
        "uint16": (add(np.ones((1, 12), np.uint16)), T, "got uint16"),
        "objects": (add(np.ones((1, 12), object)), T, "got object"),
        "a list": (add([[1] * 12]), T, "must be a tensor or an array .* got list"),
        "None": (add(None), T, "must be a tensor or an array .* got NoneType"),
        "one code": (add(CODES[0]), V, r"shape \(N, K\)"),
        "other bits": (add(CODES[:, :9]), V, "have 9 bits, expected 12"),
        "bits beyond": (add(torch.full((1, 2), 255).byte()), V, "beyond the first 12"),
        "ids=-1": (add(CODES[:1], [-1]), V, "must not be negative"),
        "ids=2^63-1": (add(CODES[:1], [2**63 - 1]), V, "below 2\\^63 - 1"),
        "ids=2^64": (add(CODES[:1], [2**64]), T, "must be whole numbers"),
        "ids=1.0": (add(CODES[:1], [1.0]), T, "whole numbers .* got float64"),
        "ids=True": (add(CODES[:1], [True]), T, "whole numbers .* got bool"),
        "ids=None in it": (add(CODES[:2], [20, None]), T, "whole numbers .* got object"),
        "ids a dict": (add(CODES[:1], {20: 1}), T, "a sequence of ids, got dict"),
        "ids a string": (add(CODES[:1], "x"), T, "a sequence of ids, got str"),
        "too few ids": (add(CODES[:2], [20]), V, "2 codes, 1 ids"),
        "twice": (add(CODES[:2], [20, 20]), V, "distinct; repeated: 20"),
        "there": (add(CODES[:1], [3]), V, "1 ids are in the index already: 3"),
        "strings": (add(CODES[:1], ["x"]), T, "has whole numbers as ids, got strings: x"),
        "number to names": (add(CODES[:1], [3], named), T, "has strings as ids, got int"),
        "no name": (add(CODES[:1], None, named), V, "has strings as ids: pass ids="),
        "empty name": (add(CODES[:1], [""], named), V, "must not be the empty string"),
        "name twice": (add(CODES[:2], ["x", "x"], named), V, "repeated: x"),
        "name there": (add(CODES[:1], ["item 3"], named), V, "already: item 3"),
        "names too few": (add(CODES[:2], ["x"], named), V, "2 codes, 1 ids"),
        "tensor to names": (add(CODES[:1], torch.ones(1), named), T, "list of strings"),
    },
    "HashIndex.upsert": {
        "no ids": (lambda p: flat().upsert(CODES[:1], None), V, "upsert needs ids="),
        "twice": (lambda p: flat().upsert(CODES[:2], [3, 3]), V, "repeated: 3"),
        "names twice": (lambda p: named().upsert(CODES[:2], ["x", "x"]), V, "repeated: x"),
        "too few": (lambda p: flat().upsert(CODES[:2], [3]), V, "2 codes, 1 ids"),
        "hnsw": (
            lambda p: filled("hnsw", CODES).upsert(CODES[:1], [3]),
            NotImplementedError,
            "cannot replace",
        ),
    },
    "HashIndex.remove": {
        "absent": (lambda p: flat().remove([3, 99]), V, "1 ids are not in .*: 99"),
        "twice": (lambda p: flat().remove([3, 3]), V, "repeated: 3"),
        "names": (lambda p: flat().remove(["x"]), T, "got strings: x"),
        "absent name": (lambda p: named().remove(["x"]), V, "not in the index: x"),
        "numbers": (lambda p: named().remove([3]), T, "strings as ids, got int"),
        "hnsw": (
            lambda p: filled("hnsw", CODES).remove([3]),
            NotImplementedError,
            "cannot remove",
        ),
    },
    "HashIndex.merge": {
        "itself": (lambda p: shared_flat().merge(shared_flat()), V, "with itself"),
        "a list": (lambda p: flat().merge([]), T, "takes a HashIndex, got list"),
        "bits": (lambda p: flat().merge(HashIndex(13)), V, "has 13 bits, this 12"),
        "same ids": (lambda p: flat().merge(flat()), V, "10 ids are in the index"),
        "names": (lambda p: flat().merge(named()), T, "got strings: item 0"),
        "numbers": (lambda p: named().merge(flat()), T, "has strings as ids"),
    },
    "HashIndex.codes_of": {
        "absent": (lambda p: flat().codes_of([99]), V, "not in the index: 99"),
        "empty": (lambda p: HashIndex(8).codes_of([1]), V, "not in the index: 1"),
        "a fraction": (lambda p: flat().codes_of([0.5]), T, "whole numbers"),
        "one id": (lambda p: flat().codes_of(3), V, r"shape \(N,\), got \(\)"),
    },
    "HashIndex.tune": {
        "flat": (lambda p: flat().tune(3), V, "nothing to tune"),
        "0": (lambda p: filled("hnsw", CODES).tune(0), V, "ef_search must be at least 1"),
        "NaN": (lambda p: filled("hnsw", CODES).tune(NAN), T, "ef_search must be a whole"),
    },
    "HashIndex.search": {
        "k=0": (search(k=0), V, "k must be at least 1, got 0"),
        "k=1.0": (search(k=1.0), T, "k must be a whole number, got 1.0"),
        "k=NaN": (search(k=NAN), T, "k must be a whole number, got nan"),
        "k=True": (search(k=True), T, "k must be a whole number, got True"),
        "k a bool tensor": (search(k=torch.tensor(True)), T, "k must be a whole number"),
        "k=None": (search(k=None), T, "k must be a whole number, got None"),
        "k=10**12": (search(k=10**12), V, "far more than the 10 codes .* k <= 10"),
        "k=2**70": (search(k=2**70), V, "k must be at most"),
        "reals": (search(X), V, "-1 and \\+1 only"),
        "allowed absent": (search(allowed=[99]), V, "not in the index: 99"),
        "allowed mask": (search(allowed=[True] * 10), T, "whole numbers .* got bool"),
        "allowed one": (search(allowed=3), V, r"shape \(N,\)"),
        "untrained": (
            lambda p: HashIndex(12, "ivf").search(CODES, 1),
            V,
            "must be trained first",
        ),
    },
    "HashIndex.range_search": {
        "-1": (lambda p: flat().range_search(CODES, -1), V, "radius must be at least 0"),
        "0.5": (lambda p: flat().range_search(CODES, 0.5), T, "radius must be a whole"),
        "NaN": (lambda p: flat().range_search(CODES, NAN), T, "radius must be a whole"),
        "bool": (lambda p: flat().range_search(CODES, False), T, "radius must be a whole"),
        "allowed": (lambda p: flat().range_search(CODES, 1, allowed=[99]), V, ": 99"),
    },
    "HashIndex.search_asymmetric": {
        "NaN": (soft(torch.full((1, 12), NAN)), V, "finite, got 12 NaN"),
        "inf": (soft(torch.full((1, 12), INF)), V, "finite, got 12 NaN or infinite"),
        "bytes": (soft(PACKED), T, "real outputs around 0, got torch.uint8"),
        "bool": (soft(CODES > 0), T, "real outputs around 0, got torch.bool"),
        "strings": (soft(np.full((1, 12), "x")), T, "real outputs around 0, got <U1"),
        "a list": (soft([[0.5] * 12]), T, "must be a tensor or an array .* got list"),
        "shape": (soft(torch.rand(1, 9)), V, r"shape \(Q, 12\), got \(1, 9\)"),
        "candidates": (soft(k=5, candidates=4), V, "candidates must be at least 5, got 4"),
        "fraction": (soft(candidates=4.5), T, "candidates must be a whole number"),
        "k=10**12": (soft(k=10**12), V, "far more than the 10 codes"),
    },
    "HashIndex.save": {
        "untrained": (lambda p: HashIndex(8, "ivf").save(p / "x"), V, "trained first"),
        "no folder": (lambda p: flat().save(p / "a" / "x"), FileNotFoundError, "make it"),
        "a folder": (lambda p: flat().save(p), IsADirectoryError, "folder has this name"),
    },
    "HashIndex.load": {
        "absent": (lambda p: HashIndex.load(p / "x"), FileNotFoundError, "no index file"),
        "a folder": (lambda p: HashIndex.load(p), V, "not a regular file"),
        "foreign": (lambda p: HashIndex.load(text_file(p)), V, "not a file that HashIndex"),
        "mmap=1": (lambda p: HashIndex.load(p / "x", mmap=1), T, "mmap must be True or"),
        "verify": (lambda p: HashIndex.load(p / "x", verify="y"), T, "verify must be True"),
    },
    "HashEncoder": {
        "batch_size=0": (made(batch_size=0), V, "batch_size must be at least 1, got 0"),
        "batch_size=4.0": (made(batch_size=4.0), T, "batch_size must be a whole number"),
        "batch_size=True": (made(batch_size=True), T, "batch_size must be a whole number"),
        "num_workers=-1": (made(num_workers=-1), V, "num_workers must be at least 0"),
        "num_workers=NaN": (made(num_workers=NAN), T, "num_workers must be a whole number"),
        "transform=3": (made(transform=3), T, "transform must be callable, got int"),
        "device=gpu9": (made(device="gpu9"), V, "device must name a device .* got 'gpu9'"),
        "device=1.5": (made(device=1.5), V, "device must name a device"),
        "amp=int8": (made(amp=torch.int8), V, "amp must be None, float16 or bfloat16"),
        "amp=True": (made(amp=True), V, "amp must be None, float16 or bfloat16, got True"),
        "progress=1": (made(progress=1), T, "progress must be True or False, got 1"),
        "unreadable": (made(unreadable="ignore"), V, "must be 'raise' or 'skip', got 'ign"),
        "no trunk": (
            lambda p: HashEncoder(None, nn.Linear(6, 8)),
            T,
            "trunk must be a mod",
        ),
        "no head": (lambda p: HashEncoder(nn.Identity(), len), T, "head must be a module"),
        "relu": (
            lambda p: HashEncoder(nn.Identity(), nn.Sequential(nn.Linear(6, 8), nn.ReLU())),
            V,
            "ends in ReLU, whose outputs are never negative",
        ),
    },
    "HashEncoder.encode": {
        "NaN": (encode(torch.full((2, 6), NAN)), V, "row 0 holds NaN"),
        "a dict": (encode({5: X[0]}), T, r"has keys.*pass list\(data.values\(\)\)"),
        "a set": (encode({1, 2}), T, "data must be a tensor, .* got set"),
        "a string": (encode("photos"), T, "must hold items, got the str 'photos'"),
        "None": (encode(None), T, "data must be a tensor, .* got NoneType"),
        "a number": (encode(torch.tensor(1.0)), V, "data must have rows"),
        "strings": (encode(["a.png"]), T, r"item 0 \(a.png\) .*Images need"),
        "array of objects": (encode(np.array([X[0], None], object)), T, "hold numbers"),
        "shapes": (encode([X[0], X[1, :3]]), V, r"have shapes \[\(3,\), \(6,\)\]"),
        "shuffled": (
            encode(DataLoader(TensorDataset(X), 2, shuffle=True)),
            V,
            "order of a RandomSampler",
        ),
        "batches and transform": (
            encode(iter([X]), transform=abs),
            V,
            "batches were passed",
        ),
        "return_skipped": (
            lambda p: encoder().encode(X, return_skipped=1),
            T,
            "return_skipped must be True or False",
        ),
        "one output": (
            lambda p: HashEncoder(nn.Identity(), nn.Flatten(0)).encode(X),
            V,
            r"must return \(10, bits\)",
        ),
        "whole tuple": (
            lambda p: HashEncoder(nn.Identity(), nn.LSTM(6, 8)).encode(X),
            T,
            "must return a tensor of real numbers, got tuple",
        ),
        "0/1": (
            lambda p: HashEncoder(nn.Identity(), nn.Identity()).encode(
                torch.rand(90, 16).round()
            ),
            V,
            "every code would be the same",
        ),
    },
    "HashEncoder.encode_to_file": {
        "loader": (to_file(DataLoader(TensorDataset(X))), T, "by number.*loader.dataset"),
        "iterator": (to_file(iter([X])), T, "needs a length and items by number"),
        "a dict": (to_file({1: X[0]}), T, "has keys, not rows"),
        "no folder": (to_file(X, "a/b.npy"), FileNotFoundError, "a"),
        "foreign file": (
            lambda p: encoder().encode_to_file(X, text_file(p)),
            FileExistsError,
            "not the result of such a call",
        ),
        "NaN": (to_file(torch.full((2, 6), NAN)), V, "row 0 holds NaN"),
    },
    "HashEncoder.from_pretrained": {
        "absent": (
            lambda p: HashEncoder.from_pretrained(p / "x", nn.Identity()),
            V,
            "has no config.json",
        ),
        "check_trunk": (
            lambda p: HashEncoder.from_pretrained(p, nn.Identity(), check_trunk=0),
            T,
            "check_trunk must be True or False",
        ),
    },
    "HashEncoder.save_pretrained": {
        "a file": (
            lambda p: encoder().save_pretrained(text_file(p)),
            NotADirectoryError,
            "needs a folder",
        ),
        "other layers": (
            lambda p: HashEncoder(nn.Identity(), nn.LSTM(6, 8)).save_pretrained(p),
            V,
            "this one has LSTM",
        ),
    },
    "HashEncoder.from_checkpoint": {
        "absent": (
            lambda p: HashEncoder.from_checkpoint(nn.Identity(), nn.Identity(), p / "x"),
            FileNotFoundError,
            "no checkpoint",
        ),
        "foreign": (
            lambda p: HashEncoder.from_checkpoint(
                nn.Identity(), nn.Identity(), text_file(p)
            ),
            V,
            "not a checkpoint of tensors",
        ),
        "one of two": (
            lambda p: HashEncoder.from_checkpoint(nn.Identity(), nn.Identity(), [p]),
            T,
            "one path, or two",
        ),
        "a number": (
            lambda p: HashEncoder.from_checkpoint(nn.Identity(), nn.Identity(), 3),
            T,
            "one path, or two",
        ),
        "which": (
            lambda p: checkpoint_of(p, {}, which="last"),
            V,
            "must be 'latest' or 'best', got 'last'",
        ),
        "a list": (lambda p: checkpoint_of(p, [1]), V, "must hold a dict, it holds list"),
        "no states": (
            lambda p: checkpoint_of(p, {"trunk": 3, "head": 4}),
            V,
            "must hold a state dict as 'trunk'",
        ),
        "another head": (
            lambda p: checkpoint_of(p, {"trunk": {}, "head": {}}),
            V,
            "(?s)does not fit the head.*missing: 'weight'",
        ),
    },
    "export_program": {
        "a module": (
            lambda p: export_program(nn.Linear(2, 2), X),
            T,
            "needs a HashEncoder",
        ),
        "no item": (lambda p: export_program(encoder(), X[:0]), V, "at least one item"),
        "amp": (lambda p: export_program(encoder(amp=torch.bfloat16), X), V, "without amp"),
        "no folder": (
            lambda p: export_program(encoder(), X, p / "a" / "b"),
            FileNotFoundError,
            "no folder",
        ),
    },
    "export_onnx": {
        "a module": (
            lambda p: export_onnx(nn.Linear(2, 2), X, p / "x"),
            T,
            "needs a HashEncoder",
        ),
    },
    "read_codes": {
        "absent": (lambda p: read_codes(p / "x"), FileNotFoundError, "no file of codes"),
        "no record": (lambda p: read_codes(text_file(p)), V, "has no file.json"),
        "mmap=None": (lambda p: read_codes(p / "x", mmap=None), T, "mmap must be True or"),
        "a folder": (lambda p: read_codes(p), V, "has no .*json"),
    },
    "codes_to_bit_strings": {
        "packed": (lambda p: codes_to_bit_strings(PACKED), V, "pass bits="),
        "bits": (lambda p: codes_to_bit_strings(CODES, 1.5), T, "bits must be a whole"),
    },
    "bit_strings_to_codes": {
        "a string": (lambda p: bit_strings_to_codes("0101"), T, "a list of strings of 0"),
        "bytes": (lambda p: bit_strings_to_codes([b"01"]), T, "a list of strings of 0"),
        "a 2": (lambda p: bit_strings_to_codes(["012"]), V, "0 and 1 only"),
    },
    "codes_to_signed_bytes": {
        "packed": (lambda p: codes_to_signed_bytes(PACKED), V, "pass bits="),
        "reals": (lambda p: codes_to_signed_bytes(X), V, "-1 and \\+1 only"),
    },
    "signed_bytes_to_codes": {
        "200": (lambda p: signed_bytes_to_codes([[200]], 8), V, "between -128 and 127"),
        "0.5": (lambda p: signed_bytes_to_codes([[0.5]], 8), T, "must be whole numbers"),
        "width": (lambda p: signed_bytes_to_codes([[1, 2]], 8), V, r"shape \(N, 1\)"),
        "bits=0": (lambda p: signed_bytes_to_codes([[1]], 0), V, "bits must be at least 1"),
        "beyond": (lambda p: signed_bytes_to_codes([[1]], 3), V, "beyond the first 3"),
        "ragged": (lambda p: signed_bytes_to_codes([[1], [1, 2]], 8), V, "equal length"),
    },
    "codes_to_hex": {
        "packed": (lambda p: codes_to_hex(PACKED), V, "pass bits="),
        "other bits": (lambda p: codes_to_hex(CODES, 13), V, "have 12 bits, expected 13"),
    },
    "hex_to_codes": {
        "a string": (lambda p: hex_to_codes("a0", 8), T, "a list of strings"),
        "digits": (lambda p: hex_to_codes(["zz"], 8), V, "2 hexadecimal digits each, got"),
        "spaces": (lambda p: hex_to_codes(["a0 "], 8), V, "2 hexadecimal digits each"),
        "length": (lambda p: hex_to_codes(["a0a0"], 8), V, "2 hexadecimal digits each"),
        "beyond": (lambda p: hex_to_codes(["ff"], 3), V, "beyond the first 3"),
    },
    "codes_to_words": {
        "signed=1": (lambda p: codes_to_words(CODES, signed=1), T, "signed must be True"),
        "packed": (lambda p: codes_to_words(PACKED), V, "pass bits="),
    },
    "words_to_codes": {
        "width": (lambda p: words_to_codes([[1, 2]], 12), V, "are 1 words each, got 2"),
        "reals": (lambda p: words_to_codes([[1.0]], 12), T, "must be whole numbers"),
        "beyond": (lambda p: words_to_codes([[1]], 12), V, "beyond the first 12"),
        "2^64": (lambda p: words_to_codes([[2**64]], 12), V, "fit into 64 bits"),
        "one row": (lambda p: words_to_codes([1], 12), V, r"shape \(N, W\)"),
    },
    "save_checkpoint": {
        "nothing": (lambda p: save_checkpoint(p / "c"), V, "nothing to save"),
        "a tensor": (lambda p: save_checkpoint(p / "c", x=X), T, "x must have state_dict"),
        "a list": (lambda p: save_checkpoint(p / "c", x=[1]), T, "x must have state_dict"),
        "numpy": (lambda p: save_checkpoint(p / "c", x=np.float64(1)), T, "got float64"),
        "no folder": (
            lambda p: save_checkpoint(p / "a" / "c", n=1),
            FileNotFoundError,
            "make it first",
        ),
        "a folder": (lambda p: save_checkpoint(p, n=1), IsADirectoryError, "has this name"),
    },
    "load_checkpoint": {
        "absent": (lambda p: load_checkpoint(p / "c"), FileNotFoundError, "no checkpoint"),
        "foreign": (lambda p: load_checkpoint(text_file(p)), V, "not a checkpoint of ten"),
        "fewer": (lambda p: loaded(p, model=nn.Linear(2, 2)), V, r"states of \['both', "),
        "a number": (lambda p: loaded(p, model=3, both=both()), T, "model must have load"),
        "deeper": (
            lambda p: loaded(p, model=both(), both=both()),
            V,
            "model is one object there, a dictionary here",
        ),
        "other names": (
            lambda p: loaded(p, model=nn.Linear(2, 2), both={}),
            V,
            r"both holds the states of \['a'\], asked for \[\]",
        ),
        "another shape": (
            lambda p: loaded(p, model=nn.Linear(3, 2), both=both()),
            V,
            "(?s)does not fit this Linear.*size mismatch",
        ),
        "another layer": (
            lambda p: loaded(p, model=nn.BatchNorm1d(2), both=both()),
            V,
            "(?s)does not fit this BatchNorm1d.*missing: 'running_mean'",
        ),
        "a tensor alone": (
            lambda p: (torch.save(X, p / "c"), load_checkpoint(p / "c")),
            V,
            "holds a Tensor, not what save_checkpoint writes",
        ),
    },
    "checkpointed": {
        "no trainer": (lambda p: checkpointed(3), T, "needs a PML trainer, got int"),
        "a number": (
            lambda p: checkpointed(SimpleNamespace(mining_funcs={}), x=3),
            T,
            "x must have state_dict",
        ),
        "no loading": (
            lambda p: checkpointed(
                SimpleNamespace(mining_funcs={}), x=SimpleNamespace(state_dict=dict)
            ),
            T,
            "x must have load_state_dict",
        ),
        "taken": (
            lambda p: checkpointed(SimpleNamespace(mining_funcs={"x": 1}), x=nn.Identity()),
            V,
            "has a 'x' in mining_funcs already",
        ),
    },
    "RandomState": {
        "sampler=3": (lambda p: RandomState(3), T, "or None, got int"),
        "a list": (lambda p: RandomState().load_state_dict([]), V, "this one has list"),
        "no parts": (lambda p: RandomState().load_state_dict({}), V, r"this one has \[\]"),
    },
    "atomic_write": {
        "text": (lambda p: atomic_write(p / "x", "text"), T, "bytes-like"),
    },
}
TABLE = [
    pytest.param(*cell, id=f"{entry}: {name}")
    for entry, cells in CELLS.items()
    for name, cell in cells.items()
]


@pytest.mark.parametrize(("call", "error", "message"), TABLE)
def test_refused_in_our_words(tmp_path, call, error, message):
    with pytest.raises(error, match=message):
        call(tmp_path)
    left = [path.name for path in tmp_path.rglob("*") if path.suffix in (".tmp", ".lock")]
    assert left == []


def test_the_table_is_large_and_its_entries_are_all_public_ones():
    assert len(TABLE) >= 150
    import pml_nmlayer.retrieval as room

    public = {name for name in vars(room) if not name.startswith("_")}
    entries = {entry.split(".")[0] for entry in CELLS}
    functions = {name for name in public if callable(getattr(room, name))}
    assert functions - {"FileCodes"} <= entries


def test_options_are_keyword_only():
    with pytest.raises(TypeError, match="positional argument"):
        HashEncoder(nn.Identity(), nn.Linear(6, 8), None, 64)
    with pytest.raises(TypeError, match="positional argument"):
        HashIndex.load("x", True)
    with pytest.raises(TypeError, match="positional argument"):
        shared_flat().search_asymmetric(X, 1, 10)
    with pytest.raises(TypeError, match="positional argument"):
        HashEncoder.from_checkpoint(nn.Identity(), nn.Identity(), "x", "best")
