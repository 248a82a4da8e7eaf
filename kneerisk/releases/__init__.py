"""The releases' own tables: readers' grades, and what else is known of a knee; no images."""
