"""Run a network fast on whatever is here: tensors, names, shapes and files; nothing of knees."""
