"""How fast steps are, as measured: what `lsd-dask plan` reckons with.

The machine: one core of a virtual x86-64 server, Intel Xeon. Where nothing else is said, figures are
those of `benchmarks/pipeline.py` for synthetic neuropil of 512^3 voxels of 8 nm, blocks of 256^3, one worker,
as in ``docs/benchmarks.md``; reading, decoding, encoding and writing on a local disk are part of them.
"""

#: Machine and data that the figures are of, for people.
MACHINE = "one core of Intel Xeon; synthetic neuropil, 8 nm; local disk"

#: Voxels a core second, of all that is read, context included.
EXTRACTION = 22.5e6
#: Voxels a core second.
COUNTING = 17.7e6
RELABELLING = 40.7e6
OVERLAPS = 28.0e6
#: Floating-point operations a core second of PyTorch in float32, with two networks of 8 and 12 feature maps:
#: 28 and 58 billion were measured, on one thread.
CONVOLUTION = 30e9

#: Fragments and edges of their graph a voxel. Lightly smoothed affinities give six times as many.
FRAGMENTS, EDGES = 565e-6, 4104e-6

#: Seconds for each edge, in the one process that holds the graph: added up at three levels of a tree,
#: written, merged, and scored.
ADDING, WRITING_GRAPH, MERGING, SCORING = 0.43e-6 * 3, 1.8e-6, 2.2e-6, 0.13e-6
#: Seconds for each fragment and threshold: a lookup table made and written.
CUTTING = 0.1e-6

#: Bytes of an edge in a block's table, with its part of the nodes; in Parquet; and in memory.
EDGE_COUNTED, EDGE_STORED, EDGE_HELD = 250, 57, 243
#: Bytes of a fragment in a lookup table: two whole numbers of 8 bytes, compressed by about a half.
LOOKUP_ROW = 8

#: Seconds of scheduler and client for each block, and of a worker for its record
#: (`benchmarks/scheduling.py`).
SCHEDULING, RECORDING = 1.2e-3, 3e-3
