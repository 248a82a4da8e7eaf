"""How a simulated cohort lies on disk: plainly, or as the OAI's or MOST's release does."""
