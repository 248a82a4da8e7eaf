"""What goes back to a PACS: a structured report of each image, a secondary capture of each knee's preview."""
