"""A U-Net taught to forecast in one or two steps."""
