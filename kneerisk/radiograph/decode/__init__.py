"""One file: its header, its pixels, its spacing and side."""
