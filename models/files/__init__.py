"""Weight files: reading, writing, converting, fetching and caching them."""
