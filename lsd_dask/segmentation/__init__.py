"""From affinities to segments: fragments, region graph, agglomeration, relabelling."""
