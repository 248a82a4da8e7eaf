"""The paper's method: exposure, views, diffusion, grades and landmarks, and the risk."""
