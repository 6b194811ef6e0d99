"""Ways to turn texts into vectors for regroupers, one a file."""
