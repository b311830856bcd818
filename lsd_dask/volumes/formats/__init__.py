"""One module a file format, and what their metadata state."""
