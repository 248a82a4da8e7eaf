"""Stage 1 and what stands about it: teachers before it, its decoder after it, how still knees stay."""
