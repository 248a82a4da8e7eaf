"""The commands that work from a score table alone, and what they print."""
