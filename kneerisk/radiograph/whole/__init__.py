"""Whether the whole of a compressed picture came through: decoders fill what is lost and say little."""
