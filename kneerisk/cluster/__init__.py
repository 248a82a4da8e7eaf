"""Blocks of work through a Ray cluster, whatever they are: nothing here knows of radiographs or rows."""
