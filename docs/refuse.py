"""Write the page on what is refused by having it refused: ``python docs/refuse.py``.

Each row of the page is a call that is made here, and shows the message that it gives. A test makes the page
anew and compares.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numcodecs
import numpy as np
import tifffile

import lsd_dask as ld
from lsd_dask import clusters, evaluation, workflows

PAGE = Path(__file__).parent / "refused.md"

#: Messages are cut after so many characters; what follows are lists of what there is.
_LONGEST = 260


class Refusal(NamedTuple):
    """A situation, the call in it that is refused, and why."""

    situation: str
    call: Callable[[], Any]
    why: str


#: A small scene: labels of four boxes in a volume of 24 x 24 x 24 voxels of 40 x 4 x 4 nm.
LABELS = (1 + np.arange(24)[:, None] // 12 + 2 * (np.arange(24) // 12)) * np.ones((24, 1, 1), np.uint64)
LABELS = LABELS.astype(np.uint64)
AFFINITIES = np.asarray(ld.affinities(LABELS, dtype="uint8"))
PLACE: dict[str, Any] = {"voxel_size": (40, 4, 4), "units": "nanometer"}


def prepare() -> None:
    """Put files into the working directory: good ones, and some that lie."""
    ld.save_volume(AFFINITIES, "em.zarr/volumes/affs", **PLACE)
    ld.save_volume(LABELS, "em.zarr/volumes/labels", **PLACE)
    ld.save_volume((LABELS * 9).astype(np.uint8), "em.zarr/volumes/raw", **PLACE)
    ld.save_volume((LABELS * 9).astype(np.uint32), "em.zarr/volumes/raw32", **PLACE)
    ld.save_volume(AFFINITIES[:2], "em.zarr/volumes/two", **PLACE)
    ld.save_volume(np.full((24, 24, 24), 7, np.uint64), "em.zarr/volumes/mine", **PLACE)
    with tifffile.TiffWriter("series.tif") as writer:
        for side in (16, 24):
            writer.write(np.zeros((side, side), np.uint8))
    tifffile.imwrite("movie.tif", np.zeros((3, 2, 16, 16), np.uint8), imagej=True, metadata={"axes": "TZYX"})
    with h5py.File("axes.h5", "w") as file:
        data = file.create_dataset("raw", data=np.zeros((3, 4, 5, 6), np.uint8))
        data.attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "tzyx"]})
    two = {**PLACE, "units": "furlong"}
    ld.save_volume(np.ones((24, 24, 24), np.uint8), "em.zarr/volumes/mask", **two)
    _change("em.zarr/volumes/twice", resolution=[40, 4, 4], voxel_size=[8, 8, 8])
    Path("twice.swc").write_text("1 0 0 0 0 1 -1\n2 0 8 0 0 1 1\n1 0 0 9 0 1 -1\n")
    nodes = [{"id": i, "z": 0, "y": 0, "x": 8 * i} for i in range(3)]
    Path("lacking.json").write_text(
        json.dumps({"nodes": [{**nodes[0], "masked": True}, *nodes[1:]], "edges": []})
    )
    _put_claims()
    Path("em.zarr.zip").write_bytes(b"PK")
    Path("notes.yaml").write_text("threshold: 0.4\n")
    Path("deep.json").write_text("[" * 100_000)


def _change(path: str, **attributes: Any) -> None:
    """A volume whose attributes say what these say."""
    ld.save_volume(LABELS, path, **PLACE)
    metadata = Path(path) / "zarr.json"
    content = json.loads(metadata.read_text())
    content["attributes"] |= attributes
    metadata.write_text(json.dumps(content))


def _put_claims() -> None:
    """A container of arrays that are not what they say, and one with a file of somebody else."""
    for name in ("vast", "bomb", "kept"):
        ld.save_volume(LABELS.astype(np.uint8), f"odd.zarr/{name}", zarr_format=2)
    metadata = Path("odd.zarr/vast/.zarray")
    metadata.write_text(json.dumps(json.loads(metadata.read_text()) | {"shape": [2**40, 2**20, 2**20]}))
    Path("odd.zarr/bomb/0/0/0").write_bytes(numcodecs.Zstd().encode(bytes(1 << 24)))
    Path("odd.zarr/kept/notes.txt").write_text("mine")


def segment(**options: Any) -> Any:
    """The whole workflow, on the good affinities unless told otherwise."""
    return workflows.segment(**{"affs_file": "em.zarr", "out_file": "out.zarr", "threshold": 0.5, **options})


def fragments(**options: Any) -> Any:
    """Its first step."""
    return workflows.extract_fragments(**{"affs_file": "em.zarr", "fragments_file": "em.zarr", **options})


def train(**options: Any) -> Any:
    """A training on the volumes of `em.zarr`."""
    volume = {"raw_file": "em.zarr", "raw_dataset": "volumes/raw", "labels_dataset": "volumes/labels"}
    return workflows.train(
        volumes=[volume | options], out_dir="network", output_shape=(16, 16, 16), iterations=1
    )


SECTIONS: dict[str, list[Refusal]] = {
    "Files and their metadata": [
        Refusal(
            "An array that is not there",
            lambda: ld.open_volume("em.zarr/volumes/labls"),
            "The nearest name is told.",
        ),
        Refusal(
            "An archive",
            lambda: ld.open_volume("em.zarr.zip/volumes/raw"),
            "It would be read anew for each block.",
        ),
        Refusal(
            "A shape that no disk holds",
            lambda: ld.open_volume("odd.zarr/vast"),
            "Metadata that are damaged, or lie.",
        ),
        Refusal(
            "A chunk that decodes to far more than its shape",
            lambda: ld.open_volume("odd.zarr/bomb").values,
            "A small file would fill the memory. See [security](security.md).",
        ),
        Refusal(
            "Two keys of one array that contradict each other",
            lambda: ld.open_volume("em.zarr/volumes/twice"),
            "Nobody knows which one is right.",
        ),
        Refusal(
            "Pages of several sizes in one TIFF",
            lambda: ld.open_volume("series.tif"),
            "Only some of them could be read as one volume.",
        ),
        Refusal(
            "Time points",
            lambda: ld.open_volume("movie.tif"),
            "They are no sections.",
        ),
        Refusal(
            "Time points in an HDF5 array, told by its `axistags`",
            lambda: ld.open_volume("axes.h5/raw"),
            "They are no sections, and no channels.",
        ),
    ],
    "Channels": [
        Refusal(
            "More channels than axes, and no word of what they join",
            lambda: ld.extract_fragments(np.concatenate([AFFINITIES, AFFINITIES])),
            "The first three need not be the direct neighbours.",
        ),
        Refusal(
            "A neighborhood without a direct neighbour along an axis",
            lambda: ld.extract_fragments(AFFINITIES, neighborhood=[[-1, 0, 0], [0, -1, 0], [0, 0, -9]]),
            "The watershed climbs over direct neighbours.",
        ),
        Refusal(
            "Too few channels",
            lambda: segment(affs_dataset="volumes/two"),
            "Sections would not be joined.",
        ),
    ],
    "Units": [
        Refusal(
            "A mask in a unit that is not known",
            lambda: fragments(mask_file="em.zarr", mask_dataset="volumes/mask"),
            "It cannot be converted, and bare numbers say nothing.",
        ),
        Refusal(
            "A region outside of the volume",
            lambda: fragments(roi_offset=(0, 0, 0), roi_shape=(9600, 960, 960)),
            "Nothing is cropped without being asked for.",
        ),
        Refusal(
            "A block size that is no multiple of the voxel size",
            lambda: fragments(block_size=(50, 48, 48)),
            "Blocks begin and end between voxels.",
        ),
    ],
    "Labels, raw data, affinities": [
        Refusal(
            "Negative labels",
            lambda: ld.affinities(LABELS.astype(np.int64) - 2),
            "They would be one large object, or the id 2^64 - 1.",
        ),
        Refusal(
            "Labels that are floats",
            lambda: ld.local_shape_descriptors(LABELS / 2, (10, 10, 10)),
            "Ids of 2^53 and more are not exact in floats.",
        ),
        Refusal(
            "Raw data in 32 bits",
            lambda: train(raw_dataset="volumes/raw32"),
            "Nobody knows which value is white.",
        ),
        Refusal(
            "Affinities on another scale",
            lambda: ld.extract_fragments(AFFINITIES.astype(np.float32)),
            "They would all be 1. A rounding error above 1 is taken for 1.",
        ),
    ],
    "Ids": [
        Refusal(
            "An id that is a float",
            lambda: evaluation.ContingencyTable.from_volumes(LABELS, LABELS).without([2.0**60]),
            "Which id it was is no longer known.",
        ),
    ],
    "Skeletons": [
        Refusal(
            "Ids that occur twice in an SWC file",
            lambda: evaluation.read_skeletons("twice.swc"),
            "Parents would be taken for others.",
        ),
        Refusal(
            "A key that some nodes lack",
            lambda: evaluation.read_skeletons("lacking.json"),
            "Nodes that are masked out would count, or all would be left out.",
        ),
    ],
    "What others wrote": [
        Refusal(
            "An array where a step would write that the step did not make",
            lambda: fragments(fragments_dataset="volumes/mine"),
            "It may be hours of proofreading.",
        ),
        Refusal(
            "A file of somebody else in the folder of an array that is to be replaced",
            lambda: ld.save_volume(LABELS, "odd.zarr/kept", overwrite=True),
            "It would be removed with the array.",
        ),
        Refusal(
            "A report over another file",
            lambda: fragments(report="notes.yaml", fragments_dataset="volumes/new"),
            "Only what a report wrote is replaced by one.",
        ),
        Refusal(
            "An output that is its own input",
            lambda: fragments(fragments_dataset="volumes/affs"),
            "It would be gone before it is read.",
        ),
    ],
    "Paths": [
        Refusal(
            "A key that leads out of its container",
            lambda: fragments(fragments_dataset="../../volumes"),
            "What lies there is not the step's.",
        ),
        Refusal(
            "An address with a password",
            lambda: ld.open_volume("https://ann:pony@lab.org/em.zarr"),
            "Addresses are noted beside results. See [security](security.md).",
        ),
    ],
    "Clusters": [
        Refusal(
            "A time limit that is a bare number",
            lambda: fragments(walltime=720),
            "It may be minutes or hours.",
        ),
        Refusal(
            "A line break in what a job asks for",
            lambda: clusters.job_script("slurm", account="lab\nrm -r results"),
            "The rest would be a command of its own.",
        ),
        Refusal(
            "Memory that is asked for twice",
            lambda: clusters.job_script("slurm", job_extra_directives=["--mem=8G", "--mem-per-cpu=4G"]),
            "Slurm refuses such a job, later.",
        ),
    ],
    "Configurations": [
        Refusal(
            "A key that is not known",
            lambda: segment(treshold=0.4),
            "The nearest one is told.",
        ),
        Refusal(
            "A value out of range",
            lambda: segment(threshold=1.4),
            "What was found and what was expected is told.",
        ),
        Refusal(
            "Brackets without end",
            lambda: workflows.segment("deep.json"),
            "Files are read in bounded time and memory.",
        ),
    ],
}


def refusal_of(refusal: Refusal) -> tuple[str, str]:
    """Kind and message of the error that a call raises; AssertionError where it raises none."""
    try:
        refusal.call()
    except Exception as error:  # noqa: BLE001 - which kinds there are shows on the page
        message = " ".join(str(error).replace(f"{Path.cwd()}/", "").split())
        # Names of runs are never the same.
        message = re.sub(r"\b[0-9a-f]{32}\b", "...", message)
        shown = message if len(message) <= _LONGEST else f"{message[:_LONGEST].rsplit(' ', 1)[0]} ..."
        return type(error).__name__, shown
    raise AssertionError(f"{refusal.situation}: nothing was refused")


def page() -> str:
    """The page: every row as it is refused now, in a new folder."""
    parts = [_BEGIN]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            prepare()
            for title, refusals in SECTIONS.items():
                parts.append(f"## {title}\n\n| situation | what is said | why |\n| --- | --- | --- |")
                parts += [_row(refusal) for refusal in refusals]
                parts[-1] += "\n"
        finally:
            os.chdir(before)
    return "\n".join(parts)


def _row(refusal: Refusal) -> str:
    kind, message = refusal_of(refusal)
    text = message.replace("|", "\\|")
    mark = "``" if "`" in text else "`"
    return f"| {refusal.situation} | {mark}{kind}: {text}{mark} | {refusal.why} |"


_BEGIN = """\
# What is refused, and why

A wrong result without a word is worse than an error. So what cannot be right, or can be read in two ways,
is refused before any work begins, and nothing is changed by it. A message names the file or the key, what was
found and what was expected. All of those below are made by the calls in `docs/refuse.py`, which writes this
page.

What may be right though it looks odd is not refused and gets a word on the terminal: affinities of uint8 none
of which is above 1, raw data next to black, sections missing in a row of numbers, skeletons mostly in
background.
"""


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
