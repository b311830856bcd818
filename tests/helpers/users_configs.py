"""Configurations as users of the funkelab scripts have them in their files."""

from typing import Any

from lsd_dask.workflows.config import steps
from lsd_dask.workflows.config.options import Config

NETWORK = {"experiment": "hemi", "setup": "setup01", "iteration": 400000}
DATABASE = {"db_host": "mongodb client", "db_name": "foo"}
FRAGMENTS = {"fragments_file": "foo.zarr", "fragments_dataset": "/volumes/fragments"}
AFFINITIES = {"affs_file": "foo.zarr", "affs_dataset": "/volumes/affs"}
BLOCKS = {"block_size": [1000, 1000, 1000], "context": [248, 248, 248]}
SKELETONS = {
    "edges_db_host": "mongodb client",
    "edges_db_name": "foo",
    "edges_collection": "edges_hist_quant_75",
    "scores_db_name": "scores",
    "annotations_db_host": "mongo client",
    "annotations_db_name": "foo",
    "annotations_skeletons_collection_name": "zebrafinch",
    "node_components": "zebrafinch_components",
    "node_mask": "zebrafinch_mask",
    "roi_offset": [50800, 43200, 44100],
    "roi_shape": [10800, 10800, 10800],
    "thresholds_minmax": [0.5, 1],
    "thresholds_step": 1,
    "run_type": "11_micron_roi_masked",
}

#: Keys and values as users of the funkelab scripts have them in their files.
USERS_CONFIGS: dict[str, tuple[type[Config], dict[str, Any]]] = {
    "region": (
        steps.RegionConfig,
        {"container": "hemi_roi_1.zarr", "offset": [140800, 205120, 198400], "size": [3000, 3000, 3000]},
    ),
    "predict": (
        steps.PredictConfig,
        {
            **NETWORK,
            **DATABASE,
            "base_dir": "/path/to/base/directory",
            "raw_file": "predict_roi.json",
            "raw_dataset": "volumes/raw",
            "out_base": "output",
            "file_name": "foo.zarr",
            "num_workers": 5,
            "queue": "gpu_rtx",
            "singularity_image": "/path/to/singularity/image",
        },
    ),
    "predict from a first network's output": (
        steps.PredictConfig,
        {
            **NETWORK,
            **DATABASE,
            "base_dir": "/path/to/base/directory",
            "raw_file": {"container": "raw.zarr", "offset": [0, 0, 0], "size": [3000, 3000, 3000]},
            "raw_dataset": "volumes/raw",
            "auto_file": "lsds.zarr",
            "auto_dataset": "volumes/lsds",
            "out_base": "output",
            "file_name": "foo.zarr",
            "num_workers": 5,
            "queue": "gpu_rtx",
        },
    ),
    "watershed": (
        steps.ExtractFragmentsConfig,
        {
            **NETWORK,
            **DATABASE,
            **AFFINITIES,
            **FRAGMENTS,
            **BLOCKS,
            "num_workers": 6,
            "fragments_in_xy": False,
            "epsilon_agglomerate": 0,
            "queue": "local",
        },
    ),
    "watershed with a mask": (
        steps.ExtractFragmentsConfig,
        {
            **NETWORK,
            **DATABASE,
            **AFFINITIES,
            **FRAGMENTS,
            **BLOCKS,
            "num_workers": 6,
            "fragments_in_xy": True,
            "queue": "local",
            "mask_file": "mask.zarr",
            "mask_dataset": "volumes/mask",
            "filter_fragments": 0.05,
            "replace_sections": [17, 18],
        },
    ),
    "agglomerate": (
        steps.AgglomerateConfig,
        {
            **NETWORK,
            **DATABASE,
            **AFFINITIES,
            **FRAGMENTS,
            **BLOCKS,
            "num_workers": 4,
            "queue": "local",
            "merge_function": "hist_quant_75",
        },
    ),
    "find segments": (
        steps.FindSegmentsConfig,
        {
            **DATABASE,
            **FRAGMENTS,
            "edges_collection": "edges_hist_quant_75",
            "thresholds_minmax": [0, 1],
            "thresholds_step": 0.02,
            "block_size": [1000, 1000, 1000],
            "num_workers": 5,
            "run_type": "test",
        },
    ),
    "find segments of a region": (
        steps.FindSegmentsConfig,
        {
            **DATABASE,
            "fragments_file": "foo.zarr",
            "fragments_dataset": None,
            "edges_collection": "edges_mean",
            "thresholds_minmax": [0, 1],
            "thresholds_step": 0.02,
            "block_size": [1000, 1000, 1000],
            "num_workers": 5,
            "roi_offset": [0, 0, 0],
            "roi_shape": [2000, 2000, 2000],
        },
    ),
    "extract segmentation": (
        steps.ExtractSegmentationConfig,
        {
            **FRAGMENTS,
            "edges_collection": "edges_hist_quant_75",
            "threshold": 0.4,
            "block_size": [1000, 1000, 1000],
            "out_file": "foo.zarr",
            "out_dataset": "volumes/segmentation_40",
            "num_workers": 3,
            "run_type": "test",
        },
    ),
    "evaluate volumes": (
        steps.EvaluateVolumesConfig,
        {
            **NETWORK,
            **FRAGMENTS,
            "gt_file": "hemi_roi_1.zarr",
            "gt_dataset": "volumes/labels/neuron_ids",
            "db_host": "mongodb client",
            "rag_db_name": "foo",
            "edges_collection": "edges_hist_quant_75",
            "scores_db_name": "scores",
            "thresholds_minmax": [0, 1],
            "thresholds_step": 0.02,
            "num_workers": 4,
            "method": "vanilla",
            "run_type": "test",
        },
    ),
    "evaluate annotations": (
        steps.EvaluateAnnotationsConfig,
        {**NETWORK, **FRAGMENTS, **SKELETONS, "config_slab": "mtlsd"},
    ),
    "evaluate annotations at synapses": (
        steps.EvaluateAnnotationsConfig,
        {
            **NETWORK,
            **FRAGMENTS,
            **SKELETONS,
            "annotations_synapses_collection_name": "zebrafinch_synapses",
            "compute_mincut_metric": True,
        },
    ),
}

#: The least each step has to be told.
