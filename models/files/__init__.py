"""Files of weights: read, write, convert, fetch and cache."""
