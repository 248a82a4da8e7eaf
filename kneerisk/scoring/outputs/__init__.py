"""What a run leaves: the table and its dictionary, previews, futures, summary, report."""
