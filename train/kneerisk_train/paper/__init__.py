"""The paper's experiments, and their report."""
