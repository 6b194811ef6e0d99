"""How trials are executed: one engine a file."""
