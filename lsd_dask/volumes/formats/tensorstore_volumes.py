"""Volumes that tensorstore reads and writes (extra ``formats``): what N5 and precomputed volumes share.

Both keep their axes as x, y, z; here they are z, y, x like those of all volumes, and channels come first.
"""

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...checks.arguments import shown
from ...space.grids import Grid
from ...space.neighborhoods import KEY, frozen
from ...storage import files
from ...storage.missing import listed
from ...storage.stores import is_remote
from ..stored import StoredVolume
from .claims import check_claims
from .layouts import Layout

_PROTOCOLS = ("gs", "gcs", "s3", "http", "https", "file")


@dataclass(frozen=True, kw_only=True)
class StoredTensor(StoredVolume):
    """A volume that tensorstore reads and writes.

    Parameters
    ----------
    spec : str
        What tensorstore opens, as JSON.
    """

    spec: str

    def _load(self, selection: tuple[Any, ...]) -> NDArray[Any]:
        with naming_errors(self.path):
            return np.ascontiguousarray(self._store_of()[selection].read().result())

    def _store(self, selection: tuple[Any, ...], voxels: NDArray[Any]) -> None:
        with naming_errors(self.path):
            self._store_of()[selection].write(voxels).result()

    def _store_of(self) -> Any:
        # Opened each time: one that is kept would read what replaced the volume as if it were the old one.
        store = open_store(json.loads(self.spec))
        if fingerprint_of(store) != self.fingerprint:
            raise ValueError("the volume was replaced by a different one since it was opened; open it anew")
        return store


def open_store(spec: Mapping[str, Any]) -> Any:
    """Open an array with its axes in our order and its first voxel at 0.

    Parameters
    ----------
    spec : mapping
        Of tensorstore.

    Returns
    -------
    tensorstore.TensorStore
        ``([channel, ]z, y, x)``

    Raises
    ------
    ModuleNotFoundError
        Without the extra ``formats``.
    """
    tensorstore = _tensorstore()
    store = tensorstore.open(dict(spec)).result()
    return store[tensorstore.d[:].translate_to[0]].T


def stored_tensor(
    path: str, spec: Mapping[str, Any], store: Any, layout: Layout, attributes: Mapping[str, Any]
) -> StoredTensor:
    """Describe an opened array as a volume.

    Parameters
    ----------
    path : str
        Where it was opened.
    spec : mapping
        What it was opened with.
    store : tensorstore.TensorStore
        As `open_store` gives it.
    layout : Layout
        What its metadata says.
    attributes : mapping
        That metadata.

    Returns
    -------
    StoredTensor
    """
    check_claims(path, store.shape, store.chunk_layout.read_chunk.shape, store.dtype.numpy_dtype.itemsize)
    unit = layout.of_volume(store.chunk_layout.write_chunk.shape)
    return StoredTensor(
        path=path,
        grid=layout.grid,
        dims=layout.dims,
        shape=layout.of_volume(store.shape),
        dtype=np.dtype(store.dtype.numpy_dtype),
        write_shape=unit[len(unit) - layout.grid.ndim :],
        fingerprint=fingerprint_of(store),
        stored_dims=layout.stored_dims,
        neighborhood=frozen(attributes.get(KEY)),
        spec=json.dumps(spec, sort_keys=True),
    )


def fingerprint_of(store: Any) -> str:
    """Digest of how an array is stored: shape, type, chunks and codecs.

    Parameters
    ----------
    store : tensorstore.TensorStore

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    whole = json.dumps(store.spec().to_json(), sort_keys=True)
    return hashlib.blake2b(whole.encode(), digest_size=8).hexdigest()


def check_volume(path: str, grid: Grid, dtype: np.dtype[Any], types: Sequence[str]) -> None:
    """Raise ValueError unless a format of three axes and some types can hold a volume.

    Parameters
    ----------
    path : str
        For messages.
    grid : Grid
    dtype : dtype
    types : sequence of str
        Those the format knows.
    """
    if grid.ndim != 3:
        raise ValueError(f"{path}: found a volume of the axes {', '.join(grid.dims)}, expected z, y, x")
    if dtype.name not in types:
        raise ValueError(f"{path}: found voxels of {dtype}, expected one of {', '.join(types)}")


def check_unused(path: str, where: str) -> None:
    """Check that a local folder where there is no volume yet holds nothing else.

    Parameters
    ----------
    path : str
        Of the volume, for messages.
    where : str
        The folder.

    Raises
    ------
    FileExistsError
        If something is in it, or it is a file.
    """
    found = files.names(where)
    if found or Path(where).is_file():
        what = f"a folder with {listed(found, 3)}" if found else "a file"
        raise FileExistsError(f"{path}: found {what}, expected nothing where the volume is to be written")


def kvstore_of(where: str) -> dict[str, str] | str:
    """What tensorstore calls a folder.

    Parameters
    ----------
    where : str
        Path or URL.

    Returns
    -------
    dict or str

    Raises
    ------
    ValueError
        For a protocol that tensorstore does not know.

    Examples
    --------
    >>> kvstore_of("gcs://bucket/em.n5")
    'gs://bucket/em.n5/'
    """
    if not is_remote(where):
        return {"driver": "file", "path": f"{where}/"}
    protocol, _, rest = where.partition("://")
    if protocol not in _PROTOCOLS:
        known = ", ".join(_PROTOCOLS)
        raise ValueError(f"{where}: found the protocol {protocol!r}, expected a path or one of {known}")
    return f"{'gs' if protocol == 'gcs' else protocol}://{rest}/"


def read_json(where: str, name: str) -> dict[str, Any]:
    """Read a JSON file of a folder.

    Parameters
    ----------
    where, name : str
        The folder, and the file in it.

    Returns
    -------
    dict
        Empty where there is no such file.

    Raises
    ------
    ValueError
        If it is damaged, or holds something else than keys and values.
    """
    with naming_errors(where):
        read = _folder(where).read(name).result()
    if read.state != "value":
        return {}
    try:
        content = json.loads(read.value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}/{name}: not a readable JSON file ({error}); was it cut short?") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where}/{name}: found {shown(content)}, expected keys and their values")  # noqa: TRY004
    return content


def write_json(where: str, name: str, content: Mapping[str, Any]) -> None:
    """Write a JSON file into a folder.

    Parameters
    ----------
    where, name : str
    content : mapping
    """
    with naming_errors(where):
        _folder(where).write(name, json.dumps(content).encode()).result()


@contextmanager
def naming_errors(path: str) -> Iterator[None]:
    """Say errors of tensorstore, which has ValueError for everything, in the words of this package.

    Parameters
    ----------
    path : str
        Of the volume.
    """
    try:
        yield
    except ValueError as error:
        text = str(error).partition(" [")[0]
        if "ALREADY_EXISTS" in text:
            raise FileExistsError(
                f"{path}: a volume with these voxels is already there; pass overwrite=True to replace it"
            ) from error
        if "NOT_FOUND" in text:
            raise FileNotFoundError(f"{path}: {text}") from error
        if path in text:
            raise
        raise ValueError(f"{path}: {text}") from error


def _folder(where: str) -> Any:
    return _tensorstore().KvStore.open(kvstore_of(where)).result()


def _tensorstore() -> Any:
    try:
        return importlib.import_module("tensorstore")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "N5 and precomputed volumes need tensorstore: pip install 'lsd-dask[formats]'"
        ) from error
