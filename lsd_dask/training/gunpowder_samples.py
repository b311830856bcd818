"""Training samples by gunpowder: deformation, defects, and volumes of any kind that can be opened.

Everything is told to gunpowder in voxels: its coordinates are whole numbers, and voxel sizes need not be.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

try:
    import gunpowder as gp
except ImportError as error:
    raise ImportError("Sampling with gunpowder needs it: pip install 'lsd-dask[train]'") from error

from ..gunpowder import AddLocalShapeDescriptor
from ..networks.normalisation import normalise
from .augmentation import augmentation_nodes
from .crops import ATTEMPTS, check_spec, too_few_labels
from .labelled_volumes import TrainingVolume
from .samples import Sample, SampleSpec, grow_boundary

#: Raw data are mirrored at the faces of a volume, as far as this many voxels.
_FAR = 2**20


class VolumeSource(gp.BatchProvider):  # type: ignore[misc]
    """A volume with its labels and masks, read from where it is stored.

    Parameters
    ----------
    volume : TrainingVolume
        The volume.
    raw, objects, known, labelled, ignored : ArrayKey
        Of the arrays it provides: raw data from 0 to 1, and what `Labels` holds.
    padding : sequence of int
        Voxels around the labels where samples may reach; nothing is known there.
    """

    def __init__(
        self,
        volume: TrainingVolume,
        raw: gp.ArrayKey,
        objects: gp.ArrayKey,
        known: gp.ArrayKey,
        labelled: gp.ArrayKey,
        ignored: gp.ArrayKey,
        padding: Sequence[int],
    ) -> None:
        self.volume, self.raw, self.objects = volume, raw, objects
        self.masks = {"known": known, "labelled": labelled, "ignored": ignored}
        self.padding = gp.Coordinate(padding)

    def setup(self) -> None:
        """Announce the arrays."""
        one = gp.Coordinate((1,) * self.volume.ndim)
        inside = gp.Roi((0,) * self.volume.ndim, self.volume.shape)
        around = inside.grow(self.padding, self.padding)
        far = inside.grow(one * _FAR, one * _FAR)
        self.provides(self.raw, gp.ArraySpec(far, one, interpolatable=True, dtype=np.float32))
        self.provides(self.objects, gp.ArraySpec(around, one, interpolatable=False, dtype=np.int64))
        for key in self.masks.values():
            self.provides(key, gp.ArraySpec(around, one, interpolatable=False, dtype=np.uint8))

    def provide(self, request: gp.BatchRequest) -> gp.Batch:
        """Read what is requested."""
        batch = gp.Batch()
        for key, spec in request.array_specs.items():
            begin, end = tuple(spec.roi.begin), tuple(spec.roi.end)
            if key == self.raw:
                voxels = self.volume.read_raw(begin, end)
                voxels = voxels if self.volume.channels else voxels[0]
            else:
                labels = self.volume.read_labels(begin, end)
                names = {self.objects: "objects"} | {mask: name for name, mask in self.masks.items()}
                voxels = getattr(labels, names[key])
            found = self.spec[key].copy()
            found.roi = spec.roi
            batch[key] = gp.Array(voxels, found)
        return batch


class GrowBoundary(gp.BatchFilter):  # type: ignore[misc]
    """gunpowder's node of that name, in a time that does not grow with the number of objects.

    Parameters
    ----------
    labels, mask : ArrayKey
        Object ids, which are changed; and where they are known.
    steps : int
        Voxels to take off.
    only_xy : bool
        Leave the z axis alone.
    """

    def __init__(self, labels: gp.ArrayKey, mask: gp.ArrayKey, steps: int, only_xy: bool) -> None:
        self.labels, self.mask, self.steps, self.only_xy = labels, mask, steps, only_xy

    def setup(self) -> None:
        """Announce that labels are changed."""
        self.updates(self.labels, self.spec[self.labels].copy())
        self.enable_autoskip()

    def prepare(self, request: gp.BatchRequest) -> gp.BatchRequest:
        """Ask for as many voxels more as are taken off, so that all boundaries are seen."""
        dependencies = gp.BatchRequest()
        roi = request[self.labels].roi
        around = gp.Coordinate((self.steps,) * roi.dims)
        for key in (self.labels, self.mask):
            dependencies[key] = gp.ArraySpec(roi.grow(around, around))
        return dependencies

    def process(self, batch: gp.Batch, request: gp.BatchRequest) -> gp.Batch:
        """Take voxels off."""
        labels = batch[self.labels]
        grown = grow_boundary(labels.data, self.steps, batch[self.mask].data, in_section=self.only_xy)
        out = gp.Batch()
        out[self.labels] = gp.Array(grown, labels.spec).crop(request[self.labels].roi)
        return out


class GunpowderSampler:
    """Samples from a gunpowder pipeline.

    Sample `i` depends on the seed and on `i`, and on nothing else. gunpowder draws its numbers from
    the global generators of ``random`` and NumPy, which it seeds for each request.

    Parameters
    ----------
    volumes : sequence of TrainingVolume
        As `prepare_volumes` gives them.
    spec : SampleSpec
        What samples are made of.
    seed : int, optional
        Of all that is drawn at random.

    Raises
    ------
    ValueError
        If the augmentation does not fit the volumes.

    References
    ----------
    .. [1] https://github.com/funkelab/gunpowder
    """

    def __init__(self, volumes: Sequence[TrainingVolume], spec: SampleSpec, *, seed: int = 0) -> None:
        check_spec(volumes, spec)
        self.spec, self.seed = spec, seed
        names = ("RAW", "OBJECTS", "KNOWN", "LABELLED", "IGNORED", "AFFINITIES", "LSDS")
        self._keys = {name: gp.ArrayKey(name) for name in names}
        self._keys |= {
            name: gp.ArrayKey(name) for name in ("AFFINITIES_MASK", "AFFINITIES_SCALE", "LSDS_MASK")
        }
        self._pipeline = self._tree(volumes)
        self._pipeline.setup()
        self._request = self._wanted()

    def __getitem__(self, index: int) -> Sample:
        """Draw a sample.

        Raises
        ------
        RuntimeError
            If no place with enough labels was found.
        """
        # Not gunpowder's Reject: it repeats a request, and with a seed it would get the same sample forever.
        for attempt in range(ATTEMPTS):
            seed = np.random.SeedSequence((self.seed, index, attempt)).generate_state(1)[0]
            request = self._request.copy()
            request._random_seed = int(seed)
            batch = self._pipeline.request_batch(request)
            labelled = batch[self._keys["LABELLED"]]
            known = batch[self._keys["KNOWN"]].crop(labelled.spec.roi)
            batch[self._keys["KNOWN"]] = known
            if float(np.mean(known.data * labelled.data)) >= self.spec.minimum_labelled:
                return self._sample(batch)
        raise too_few_labels(self.spec)

    def _tree(self, volumes: Sequence[TrainingVolume]) -> Any:
        keys, spec, config = self._keys, self.spec, self.spec.augmentation
        masks = {name.lower(): keys[name] for name in ("KNOWN", "LABELLED", "IGNORED")}
        extent = [n + 2 * m for n, m in zip(spec.output_shape, spec.margin, strict=True)]
        extent = [max(a, b) for a, b in zip(extent, spec.input_shape, strict=True)]
        padding = [m + r for m, r in zip(spec.margin, config.reach(extent), strict=True)]
        sources = tuple(
            VolumeSource(volume, keys["RAW"], keys["OBJECTS"], **masks, padding=padding) + gp.RandomLocation()
            for volume in volumes
        )
        tree = sources + gp.RandomProvider([volume.probability for volume in volumes])
        for node in augmentation_nodes(config, keys["RAW"], spec.model.dims, volumes[0].channels or 1):
            tree += node
        if config.grow_boundary:
            tree += GrowBoundary(keys["OBJECTS"], keys["KNOWN"], config.grow_boundary, config.grow_in_section)
        if "lsds" in spec.model.predictions:
            tree += AddLocalShapeDescriptor(
                keys["OBJECTS"],
                keys["LSDS"],
                lsds_mask=keys["LSDS_MASK"],
                unlabelled=keys["LABELLED"],
                sigma=spec.lsd_sigma,
                downsample=spec.lsd_downsample,
            )
        if "affinities" in spec.model.predictions:
            tree += gp.AddAffinities(
                spec.model.neighborhood,
                keys["OBJECTS"],
                keys["AFFINITIES"],
                labels_mask=keys["KNOWN"],
                unlabelled=keys["LABELLED"],
                affinities_mask=keys["AFFINITIES_MASK"],
                dtype=np.float32,
            )
            if spec.balance:
                tree += gp.BalanceLabels(
                    keys["AFFINITIES"], keys["AFFINITIES_SCALE"], (keys["AFFINITIES_MASK"],)
                )
        return tree

    def _wanted(self) -> gp.BatchRequest:
        spec, request = self.spec, gp.BatchRequest()
        start = [-b for b in spec.before]
        request[self._keys["RAW"]] = gp.ArraySpec(gp.Roi(start, spec.input_shape))
        output = gp.Roi((0,) * spec.model.dims, spec.output_shape)
        wanted = ["KNOWN", "LABELLED", "IGNORED", *(name.upper() for name in spec.model.predictions)]
        if "affinities" in spec.model.predictions:
            wanted += ["AFFINITIES_MASK", *(["AFFINITIES_SCALE"] if spec.balance else [])]
        if "lsds" in spec.model.predictions:
            wanted += ["LSDS_MASK"]
        for name in wanted:
            request[self._keys[name]] = gp.ArraySpec(output)
        # With its margin, so that without deformation all outputs lie within the volume.
        margin = gp.Coordinate(spec.margin)
        request[self._keys["KNOWN"]] = gp.ArraySpec(output.grow(margin, margin))
        return request

    def _sample(self, batch: gp.Batch) -> Sample:
        arrays = {name: batch[key].data for name, key in self._keys.items() if key in batch}
        raw = arrays["RAW"] if arrays["RAW"].ndim > self.spec.model.dims else arrays["RAW"][None]
        # Interpolation goes a hair beyond what it interpolates.
        raw = np.clip(raw, 0, 1)
        targets, weights = {}, {}
        if "affinities" in self.spec.model.predictions:
            targets["affinities"] = arrays["AFFINITIES"]
            weights["affinities"] = arrays["AFFINITIES_SCALE" if self.spec.balance else "AFFINITIES_MASK"]
        if "lsds" in self.spec.model.predictions:
            targets["lsds"] = arrays["LSDS"]
            ignored = arrays["IGNORED"] * arrays["LABELLED"]
            weights["lsds"] = np.maximum(arrays["LSDS_MASK"], ignored) * arrays["KNOWN"]
        return Sample(
            normalise(np.ascontiguousarray(raw, np.float32), self.spec.raw_range),
            {name: np.ascontiguousarray(target, np.float32) for name, target in targets.items()},
            {name: np.ascontiguousarray(weight, np.float32) for name, weight in weights.items()},
        )
