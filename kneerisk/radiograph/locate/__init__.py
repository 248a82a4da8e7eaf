"""Where the knees of a radiograph are, and which."""
