"""What to learn: one task a file. This house knows no mixer and no harness."""
