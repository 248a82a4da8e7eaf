"""From radiographs to a published stack: one flat script a stage."""
