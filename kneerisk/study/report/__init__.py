"""``kneerisk report``: one self-contained page on a scored cohort."""
