"""How to mix: one algorithm a file. This house knows no task and no harness."""
