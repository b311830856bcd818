"""Commands of the command line that run no step: they look at what steps made."""

import argparse
import importlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Tool:
    """A command that runs no step.

    Attributes
    ----------
    summary
        What it does, in a sentence.
    add_arguments
        Tells a parser what it takes.
    run
        Does it, with what was parsed.
    """

    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], None]

    def parser(self, name: str) -> argparse.ArgumentParser:
        """The parser of its arguments."""
        parser = argparse.ArgumentParser(f"lsd-dask {name}", description=self.summary)
        self.add_arguments(parser)
        parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
        return parser


def _container(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER", help="what steps write to, such as out.zarr")


# What a tool needs is imported when it runs: --help does not wait for numba.


def _shown(path: str) -> str:
    return str(importlib.import_module("lsd_dask.storage.files").shown(path))


def _status(options: argparse.Namespace) -> None:
    importlib.import_module("lsd_dask.workflows.reports.status").print_status(options.container)


def _plan_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", metavar="CONFIG", help="configuration of segment, a JSON or YAML file")
    parser.add_argument(
        "--step",
        metavar="STEP",
        default="segment",
        help="command that the configuration is of, one that is done in blocks (default: segment)",
    )
    parser.add_argument(
        "--num-workers",
        type=int,
        nargs="+",
        metavar="N",
        default=(1, 10, 100, 1000),
        help="numbers of workers to tell it for (default: 1 10 100 1000)",
    )


def _plan(options: argparse.Namespace) -> None:
    plans = importlib.import_module("lsd_dask.workflows.planning")
    plans.print_plan(
        plans.plan(options.config, step=options.step.replace("-", "_"), workers=options.num_workers)
    )


def _report_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "container",
        metavar="CONTAINER",
        help="what steps write to, such as out.zarr; or the folder of a training, or a table of compare",
    )
    parser.add_argument(
        "--out", metavar="FILE", help="file to write (default: report.html in it, or beside a table)"
    )


def _report(options: argparse.Namespace) -> None:
    path = importlib.import_module("lsd_dask.workflows.reports.report").report(options.container, options.out)
    print(_shown(path))


def _view_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="PATH", nargs="+", help="a container, or a volume in any format that is read"
    )
    parser.add_argument(
        "--threshold",
        type=float,
        metavar="N",
        help="where the merge tree is cut first (default: where scores are best)",
    )
    parser.add_argument("--merge-function", metavar="NAME", help="of the merge tree (default: hist_quant_75)")
    parser.add_argument("--fragments", metavar="NAME", help="layer of the fragments that are merged")
    parser.add_argument("--port", type=int, default=0, metavar="N", help="to serve it at (default: any)")
    parser.add_argument(
        "--bind", default="127.0.0.1", metavar="ADDRESS", help="to listen at (default: this machine alone)"
    )
    parser.add_argument(
        "--screenshot", metavar="FILE", help="write a picture (PNG) and end; needs Chromium or Chrome"
    )
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        default=(1600, 1000),
        metavar=("WIDTH", "HEIGHT"),
        help="of the picture, in pixels",
    )


def _view(options: argparse.Namespace) -> None:
    if options.screenshot is not None:
        importlib.import_module("lsd_dask.storage.own_files").check_replaceable(
            options.screenshot, "the screenshot"
        )
    viewer = importlib.import_module("lsd_dask.viewer").view(
        *options.paths,
        threshold=options.threshold,
        merge_function=options.merge_function,
        fragments=options.fragments,
        port=options.port,
        bind=options.bind,
    )
    if options.screenshot is not None:
        print(_shown(viewer.screenshot(options.screenshot, size=tuple(options.size))))
        return
    print(f"Open {viewer.url}\nCtrl+C ends it.", flush=True)
    threading.Event().wait()


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a volume in any format that is read, such as a folder of TIFF sections",
    )
    parser.add_argument("target", metavar="TARGET", help="volume to write, such as em.zarr/volumes/raw")
    for name, meaning in (("voxel-size", "of a voxel"), ("offset", "position of the lower corner")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            metavar="N",
            help=f"{meaning}, world units, one number an axis: z y x (default: what is stored)",
        )
    parser.add_argument("--units", metavar="NAME", help="of these (default: what is stored, or nanometer)")
    parser.add_argument("--overwrite", action="store_true", help="replace a volume that is there")


def _numbers(name: str, given: Sequence[str] | None) -> list[float] | None:
    """Numbers that are apart by spaces or commas."""
    if given is None:
        return None
    try:
        return [float(text) for text in re.split(r"[\s,]+", " ".join(given).strip(" ,"))]
    except ValueError:
        raise ValueError(f"--{name}: expected numbers, found {' '.join(given)!r}") from None


def _convert(options: argparse.Namespace) -> None:
    place = {"voxel_size": _numbers("voxel-size", options.voxel_size)}
    place["offset"] = _numbers("offset", options.offset)
    volumes = importlib.import_module("lsd_dask.volumes.saving")
    volume = volumes.open_volume(options.source, **place, units=options.units)
    volumes.save_volume(volume, options.target, overwrite=options.overwrite)
    grid = volumes.grid_of(volume)
    voxel_size, offset = (", ".join(f"{x:g}" for x in each) for each in (grid.voxel_size, grid.offset))
    print(
        f"{options.target}: {volume.dtype}, shape {volume.shape}, voxels of ({voxel_size}) {grid.units}, "
        f"lower corner at ({offset})"
    )
    if grid.units == "voxel" and options.units is None:
        print("No voxel size is stored: unless it really is 1, say it with --voxel-size (and --overwrite).")


#: The tools by the name of their command.
TOOLS: Mapping[str, Tool] = {
    "status": Tool(
        "Show what is done, failed and missing of every step in a container.", _container, _status
    ),
    "plan": Tool(
        "Tell what segment will take before it is run: blocks, bytes, memory, core hours.",
        _plan_arguments,
        _plan,
    ),
    "convert": Tool("Copy a volume to another format, such as images to zarr.", _convert_arguments, _convert),
    "view": Tool(
        "Look at volumes, and at segmentations of any threshold, in a browser.", _view_arguments, _view
    ),
    "report": Tool(
        "Write a page (HTML) about all that was run on a container, a training, or a comparison.",
        _report_arguments,
        _report,
    ),
}
