"""Figures of risks against events: each function is one figure, on arrays; intervals are by participant."""
