"""Readers of real data sets, one a file."""
