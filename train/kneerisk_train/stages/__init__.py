"""One file a stage of training, and what stages share."""
