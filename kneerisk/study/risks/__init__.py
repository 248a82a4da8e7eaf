"""Risks of further outcomes from the posteriors and grades of a knee and its other knee."""
