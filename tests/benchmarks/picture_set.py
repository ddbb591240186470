"""A few small pictures of plain colours with noise, in folders by class."""

import numpy as np
from PIL import Image

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def write_pictures(folder, parts=None, side=16, seed=0):
    """Write PNG files FOLDER/PART/CLASS/n.png; parts: {name: count}, None for no parts."""
    rng = np.random.default_rng(seed)
    for part, count in (parts or {"": 10}).items():
        for name, colour in COLOURS.items():
            place = folder / part / name
            place.mkdir(parents=True)
            for number in range(count):
                noise = rng.integers(-30, 30, (side, side, 3))
                pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


SUITE = """
kind: quality
dataset: "images:set:random"
trunk: resnet9_narrow
weights: random
loader: memory
image_size: 16
augment: true
bits: [8, 12]
seeds: [0]
epochs: 2
decay: 0.8
batch_size: 10
timeout_s: 100
methods:
  - {name: supcon_itq, method: signs_raw_database, behind: supcon_post, family: post,
     encodings: [itq], options: {ways: [itq]}}
  - {name: class_codes, behind: classifier_codes, family: class}
  - {name: supcon_classes, method: supcon_nm, family: nm,
     options: {classes: true, longest: 16}}
scales:
  small:
    bits: [8]
    most_items: 24
    methods: [supcon_itq, class_codes]
"""
