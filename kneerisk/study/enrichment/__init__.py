"""Trial enrichment: whom to enrol by risk, how many to screen, and at what cost."""
