"""One run: recipe, session, loop, and what it leaves to read."""
