"""Region graphs of whole volumes: counting in blocks, adding up, agglomerating in cells."""
