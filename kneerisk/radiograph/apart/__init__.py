"""Reading files in processes of their own, so that no file can end a run."""
