"""Where a file lies: on a disk of this machine, in an object store, or in a PACS."""
