"""HDF5 files as CREMI ships them: datasets with the attributes ``resolution`` and ``offset``.

Those of others are read, too: ``axistags`` and ``element_size_um``, labels of dimensions, and dimension
scales, whose values are the centres of voxels, as coordinates are in netCDF. Groups may have what datasets
lack.

A file is written by one process at a time: HDF5 has no other way. h5py comes with the extra `hdf5`.

References
----------
.. [1] https://cremi.org/data/
"""

import importlib
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ...space.grids import TOLERANCE, Grid
from ...space.neighborhoods import KEY, frozen
from ...storage import disks, files
from ...storage.files import split_at
from ...storage.missing import missing_array
from ..stored import StoredVolume, chunk_shape_for
from .attributes import KEYS, source_from_attributes, volume_attributes
from .layouts import Source, Stated, layout_of
from .zarr_creating import is_remote

if TYPE_CHECKING:
    import h5py

#: What ends the name of an HDF5 file.
SUFFIXES = (".h5", ".hdf", ".hdf5")


@dataclass(frozen=True, kw_only=True)
class StoredHDF5(StoredVolume):
    """A dataset of an HDF5 file; the file is opened for each read, so that no lock on it outlives the read.

    Parameters
    ----------
    file : str
        Path of the file.
    dataset : str
        Name of the dataset in it.
    """

    file: str
    dataset: str

    one_writer: ClassVar[bool] = True

    def _load(self, selection: tuple[Any, ...]) -> NDArray[Any]:
        with _readable(self.path), _h5py().File(self.file, "r") as file:
            return np.asarray(file[self.dataset][selection])

    def _store(self, selection: tuple[Any, ...], voxels: NDArray[Any]) -> None:
        with _readable(self.path), _h5py().File(self.file, "r+") as file:
            file[self.dataset][selection] = voxels


def is_hdf5(path: str) -> bool:
    """Whether a path leads into an HDF5 file, by its name.

    Parameters
    ----------
    path : str

    Returns
    -------
    bool

    Examples
    --------
    >>> is_hdf5("/data/sample_A.hdf/volumes/raw")
    True
    """
    return split_at(path, SUFFIXES) is not None


def open_hdf5(path: str, stated: Mapping[str, Any]) -> StoredHDF5:
    """Open a dataset of an HDF5 file.

    Parameters
    ----------
    path : str
        File and dataset in one: ``sample_A.hdf/volumes/raw``. A file with one dataset stands for it.
    stated : mapping
        ``voxel_size``, ``offset`` and ``units`` that override the attributes of the dataset.

    Returns
    -------
    StoredHDF5

    Raises
    ------
    FileNotFoundError
        If the file or the dataset does not exist; the message lists the datasets that do.
    ModuleNotFoundError
        If h5py is not installed.
    ValueError
        If the file is remote or not HDF5, if the path names a group of several datasets, or if axes or
        attributes cannot be those of a volume.
    """
    file_path, name = split_at(path, SUFFIXES) or (path, "")
    if is_remote(path):
        raise ValueError(f"{path}: HDF5 is read from local files only; copy the file, or convert it to zarr")
    if not Path(file_path).is_file():
        raise FileNotFoundError(f"{file_path}: there is no such HDF5 file")
    h5py = _h5py()
    if not h5py.is_hdf5(file_path):
        raise ValueError(f"{file_path}: this is not an HDF5 file, or one that was cut short")
    with _readable(path), h5py.File(file_path, "r") as file:
        dataset = _find(file, name, path)
        attributes = _attributes(dataset)
        own = source_from_attributes(attributes, where=path)
        group = source_from_attributes(_attributes(dataset.parent), where=f"the group {dataset.parent.name}")
        layout = layout_of(dataset.shape, [_with_dimensions(own, dataset), group], stated, where=path)
        return StoredHDF5(
            path=path,
            grid=layout.grid,
            dims=layout.dims,
            shape=layout.of_volume(dataset.shape),
            dtype=dataset.dtype,
            write_shape=layout.of_volume(dataset.chunks or (1,) * dataset.ndim)[-layout.grid.ndim :],
            stored_dims=layout.stored_dims,
            neighborhood=frozen(attributes.get(KEY)),
            file=file_path,
            dataset=dataset.name,
        )


@contextmanager
def created_hdf5(
    path: str,
    grid: Grid,
    dtype: np.dtype[Any],
    channels: int | None,
    attributes: Mapping[str, Any],
    *,
    chunk_shape: Sequence[int] | None,
    overwrite: bool,
) -> Iterator[StoredHDF5]:
    """Create a dataset that is to be filled, by this process alone.

    The file is written as a copy beside its place, and moved there when the dataset is complete: one whose
    writer is killed may be left such that nothing in it can be read.

    Parameters
    ----------
    path : str
        File and dataset in one; the file is made where there is none.
    grid : Grid
    dtype : dtype
    channels : int or None
    attributes : mapping
        More attributes for it.
    chunk_shape : sequence of int or None
        Spatial shape of a chunk; by default about 64 voxels an axis, 512 in 2-D.
    overwrite : bool
        Whether a dataset that is there is replaced.

    Yields
    ------
    StoredHDF5
        In the copy, which takes the place of the file when the body of the with statement is done.

    Raises
    ------
    FileExistsError
        If there is one and `overwrite` is False, or a group is there.
    NotADirectoryError
        If the path leads through a dataset.
    IsADirectoryError
        If there is a folder where the file should be.
    ValueError
        If the file is remote or damaged, or the path names no dataset.
    OSError
        If somebody else changed the file meanwhile.
    ModuleNotFoundError
        If h5py is not installed.
    """
    file_path, name = split_at(path, SUFFIXES) or (path, "")
    if is_remote(path):
        raise ValueError(f"{path}: HDF5 is written to local files only")
    if not name:
        raise ValueError(f"{path}: expected a file and the name of a dataset, such as {path}/volumes/raw")
    if Path(file_path).is_dir():
        raise IsADirectoryError(f"{file_path}: found a folder, expected an HDF5 file")
    h5py = _h5py()
    disks.make_folder(Path(file_path).parent)
    lead = () if channels is None else (channels,)
    chunk = tuple(chunk_shape or chunk_shape_for([max(n, 1) for n in grid.shape]))
    chunk = tuple(min(c, max(n, 1)) for c, n in zip(chunk, grid.shape, strict=True))
    state = None
    if Path(file_path).exists():
        with _readable(path), h5py.File(file_path, "r") as file:
            _check_free(file, name, path, overwrite)
        state = files.version(file_path)
    beside = f"{file_path}.{uuid.uuid4().hex}.partial"
    files.remove_partial(file_path)
    try:
        if state is not None:
            shutil.copyfile(file_path, beside)
        with _readable(path), h5py.File(beside, "a") as file:
            if name in file:
                del file[name]
            dataset = file.create_dataset(
                name, lead + grid.shape, dtype, chunks=lead + chunk, compression="gzip", compression_opts=4
            )
            dataset.attrs.update({**attributes, **volume_attributes(grid, channels)})
            # What CREMI's own reader asks for.
            file.attrs.setdefault("file_format", "0.2")
        dims = ("channel",) * len(lead) + grid.dims
        yield StoredHDF5(
            path=path,
            grid=grid,
            dims=dims,
            shape=lead + grid.shape,
            dtype=dtype,
            write_shape=chunk,
            neighborhood=frozen(attributes.get(KEY)),
            file=beside,
            dataset=name,
        )
        if state != (files.version(file_path) if Path(file_path).exists() else None):
            raise OSError(f"{file_path}: was changed by somebody else while {name} was written; try again")
        # HDF5 leaves it to the system when what it closed is on the disk.
        disks.sync_file(beside)
        disks.rename(beside, file_path)
    finally:
        Path(beside).unlink(missing_ok=True)


def _check_free(file: "h5py.File", name: str, path: str, overwrite: bool) -> None:
    h5py = _h5py()
    for end, letter in enumerate(name):
        if letter == "/" and isinstance(file.get(name[:end]), h5py.Dataset):
            raise NotADirectoryError(f"{path}: {name[:end]} is a dataset, which cannot hold another")
    there = file.get(name)
    if isinstance(there, h5py.Group):
        raise FileExistsError(f"{path}: a group is already there, expected the name of a dataset")
    if there is not None and not overwrite:
        raise FileExistsError(
            f"{path}: a dataset of shape {there.shape} and dtype {there.dtype} is already there; "
            "pass overwrite=True to replace it"
        )


def _h5py() -> Any:
    try:
        return importlib.import_module("h5py")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("HDF5 files need h5py: pip install 'lsd-dask[hdf5]'") from error


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """ValueError, naming the path, for what HDF5 finds wrong with a file; it has but one error for that."""
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise ValueError(f"{path}: the HDF5 file is damaged or was cut short ({error})") from error


def _attributes(node: "h5py.Group | h5py.Dataset") -> dict[str, Any]:
    return {key: _plain(node.attrs[key]) for key in (*KEYS, KEY) if key in node.attrs}


def _plain(value: Any) -> Any:
    """Attribute as JSON would give it: lists for arrays, str for bytes."""
    if isinstance(value, _h5py().Empty):
        return None
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _with_dimensions(own: Source, dataset: "h5py.Dataset") -> Source:
    """What a dataset says, and what the labels and scales of its dimensions say beside that."""
    labels = [dimension.label or None for dimension in dataset.dims]
    scales = [dimension[0] if len(dimension) else None for dimension in dataset.dims]
    named = [None if scale is None else scale.name.rsplit("/", 1)[-1] for scale in scales]
    names = [Stated("labels of dimensions", labels), Stated("names of dimension scales", named)]
    own = replace(own, names=(*own.names, *names))
    if not any(scale is not None and _has_values(scale) for scale in scales):
        return own
    key, problem = "dimension scales", ""
    try:
        lines = [_line(scale, n) for scale, n in zip(scales, dataset.shape, strict=True)]
    except ValueError as error:
        lines, problem = [], str(error)
    size, corner = zip(*lines, strict=True) if lines else ((), ())
    if problem or (None in size and own.voxel_size):
        wrong = (Stated(key, problem=problem or f"found the voxel sizes {size}, expected one for each axis"),)
        return replace(own, voxel_size=(*own.voxel_size, *wrong), offset=(*own.offset, *wrong))
    units = [None if scale is None else _plain(scale.attrs.get("units")) for scale in scales]
    return replace(
        own,
        voxel_size=(*own.voxel_size, Stated(key, size, units=units)),
        offset=(*own.offset, Stated(key, corner, units=units)),
    )


def _has_values(scale: "h5py.Dataset") -> bool:
    # netCDF has a scale also for dimensions without coordinates.
    about = _plain(scale.attrs.get("NAME", b""))
    is_number = scale.ndim == 1 and scale.dtype.kind in "iuf"
    return is_number and not str(about).startswith("This is a netCDF dimension but not a netCDF variable")


def _line(scale: "h5py.Dataset | None", n: int) -> tuple[float | None, float | None]:
    """Voxel size and lower corner along a dimension, from the centres of voxels in its scale."""
    if scale is None or not _has_values(scale):
        return None, None
    centres = scale[...].astype(float)
    if len(centres) != n:
        raise ValueError(f"{scale.name}: found {len(centres)} positions, expected one for each of {n} voxels")
    if n == 1:
        return None, None
    size = float(centres[-1] - centres[0]) / (n - 1)
    line = centres[0] + np.arange(n) * size
    if not (size > 0 and np.max(np.abs(centres - line)) <= TOLERANCE * size):
        raise ValueError(
            f"{scale.name}: found positions that are not evenly spaced, expected those of voxels"
        )
    # Half of a rounded number is not the number that was meant.
    return float(f"{size:.12g}"), float(f"{centres[0] - size / 2:.12g}")


def _find(file: "h5py.File", name: str, path: str) -> "h5py.Dataset":
    names: list[str] = []
    dataset = _h5py().Dataset
    file.visititems(lambda key, item: names.append(key) if isinstance(item, dataset) else None)
    below = [key for key in names if not name or key == name or key.startswith(f"{name}/")]
    if len(below) == 1:
        return file[below[0]]
    if not below:
        raise FileNotFoundError(missing_array(file.filename, name, names))
    raise ValueError(f"{path}: this is a group, not an array; name one of its arrays: {', '.join(below)}")
