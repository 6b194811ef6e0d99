"""What answers for mixtures between the rows of a table."""
