"""What ``train`` adds to the command line: entry points of the group ``kneerisk.commands``."""
