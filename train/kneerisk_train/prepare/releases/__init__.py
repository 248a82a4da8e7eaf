"""Releases as they are distributed, and folders described by a manifest."""
