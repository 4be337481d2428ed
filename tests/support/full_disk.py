"""A disk that is full."""

import resource
from contextlib import contextmanager


@contextmanager
def full_disk(most=1000):
    """No file may grow beyond so many bytes: a real error of the operating system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
