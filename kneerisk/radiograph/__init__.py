"""From files to knee crops: scan → read → localise (the only room with pydicom, beside the simulator)."""
