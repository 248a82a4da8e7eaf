"""Folders, files and manifests: which radiographs there are, and whose."""
