"""A network at work, tile by tile."""
