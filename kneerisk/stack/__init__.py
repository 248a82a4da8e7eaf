"""A stack on disk: what it says of itself, its networks, and how one is written."""
