"""Random streams by name: each source and each signal draws from one of its own."""

from zlib import crc32

import numpy as np


def stream(seed: int, name: str) -> np.random.Generator:
    """Return the stream called `name` of `seed`, so that adding one source or signal does not change the others."""
    return np.random.default_rng([seed, crc32(name.encode())])
