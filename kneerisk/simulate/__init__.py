"""Simulated knee radiographs whose truth is known; everything made here is marked SIMULATED."""
