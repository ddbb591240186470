"""What methods learn with: the same trunks, loop and seeds for all of them.

`learner` is the training loop, `trunks` the networks before a head, `vision` makes tensors
of image files (it alone needs torchvision), `seeding` seeds every generator.
"""
