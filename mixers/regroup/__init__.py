"""How to cut a corpus into domains: one regrouper a file."""
