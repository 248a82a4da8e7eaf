"""Composed and simulated films that the localiser learns from."""
