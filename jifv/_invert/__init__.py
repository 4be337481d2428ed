"""The singular value problem inside `jifv.inversion`."""
