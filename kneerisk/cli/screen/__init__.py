"""What a terminal shows: progress, and the texts of others made safe to print."""
