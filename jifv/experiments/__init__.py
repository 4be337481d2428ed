"""The laboratory: the experiments of the paper as data, run from known objectives to results on disk."""
