"""From a spec to a raw result: nothing here knows of tables, nor of how codes are judged.

`runner` hands specs to worker processes and stores what comes back, with its `environment`.
A worker executes a spec: `quality` trains a method on its `inputs` (vectors, or images
behind a trunk) and encodes; `kernels` times one of the `contests`. `devices` is where
networks are trained; `extract` writes features of images, for suites to come.
"""

from . import growth_contests as growth_contests  # registers its kernels
from . import large_contests as large_contests
