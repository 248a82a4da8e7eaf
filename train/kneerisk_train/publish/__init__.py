"""A trained run becomes a stack: forecast, fit, write."""
