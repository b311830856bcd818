"""HDF5 files as CREMI ships them: datasets with the attributes ``resolution`` and ``offset``, read-only."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from .containers import is_remote, missing_array
from .grids import Region
from .metadata import layout_from_attributes
from .storage import StoredVolume

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

    def _load(self, selection: tuple[slice, ...]) -> NDArray[Any]:
        with _readable(self.path), h5py.File(self.file, "r") as file:
            return np.asarray(file[self.dataset][(0,) * self.dropped_axes + selection])

    def _store(self, region: Region, voxels: NDArray[Any]) -> None:
        raise io.UnsupportedOperation(f"{self.path}: HDF5 is only read; save_volume writes zarr")


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
    ValueError
        If the file is remote or not HDF5, if the path names a group of several datasets, or if axes or
        attributes cannot be those of a volume.
    """
    file_path, name = _split(path)
    if is_remote(path):
        raise ValueError(f"{path}: HDF5 is read from local files only; copy the file, or convert it to zarr")
    if not Path(file_path).is_file():
        raise FileNotFoundError(f"{file_path}: there is no such HDF5 file")
    if not h5py.is_hdf5(file_path):
        raise ValueError(f"{file_path}: this is not an HDF5 file, or one that was cut short")
    with _readable(path), h5py.File(file_path, "r") as file:
        dataset = _find(file, name, path)
        attributes = {key: _plain(value) for key, value in dataset.attrs.items()}
        layout = layout_from_attributes(dataset.shape, {**attributes, **stated}, where=path)
        n_leading = dataset.ndim - layout.grid.ndim
        return StoredHDF5(
            path=path,
            grid=layout.grid,
            dims=layout.dims,
            shape=dataset.shape[layout.dropped_axes :],
            dtype=dataset.dtype,
            write_shape=(dataset.chunks or (1,) * dataset.ndim)[n_leading:],
            dropped_axes=layout.dropped_axes,
            file=file_path,
            dataset=dataset.name,
        )


@contextmanager
def _readable(path: str) -> Iterator[None]:
    """ValueError, naming the path, for what HDF5 finds wrong with a file; it has but one error for that."""
    try:
        yield
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        raise ValueError(f"{path}: the HDF5 file is damaged or was cut short ({error})") from error


def _split(path: str) -> tuple[str, str]:
    """Split at the first part with a suffix of HDF5.

    >>> _split("/data/sample_A.hdf/volumes/raw")
    ('/data/sample_A.hdf', 'volumes/raw')
    """
    parts = path.split("/")
    end = next(i for i, part in enumerate(parts) if part.lower().endswith(SUFFIXES)) + 1
    return "/".join(parts[:end]), "/".join(parts[end:])


def _plain(value: Any) -> Any:
    """Attribute as JSON would give it: lists for arrays, str for bytes."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.decode() if isinstance(value, bytes) else value


def _find(file: h5py.File, name: str, path: str) -> h5py.Dataset:
    names: list[str] = []
    file.visititems(lambda key, item: names.append(key) if isinstance(item, h5py.Dataset) else None)
    below = [key for key in names if not name or key == name or key.startswith(f"{name}/")]
    if len(below) == 1:
        return file[below[0]]
    if not below:
        raise FileNotFoundError(missing_array(file.filename, name, names))
    raise ValueError(f"{path}: this is a group, not an array; name one of its arrays: {', '.join(below)}")
