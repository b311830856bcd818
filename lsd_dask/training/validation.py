"""How good a network is on volumes it does not know: by its loss, and by the segmentation it leads to."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..evaluation import ContingencyTable
from ..networks.checkpoints import Checkpoint
from ..networks.models import Model
from ..prediction.inference import Precision
from ..prediction.tiles import predict
from ..segmentation.agglomeration import agglomerate
from ..segmentation.fragments import extract_fragments
from ..segmentation.region_graph import build_region_graph
from ..space.grids import Region
from .labelled_volumes import TrainingVolume
from .samples import SampleSpec, targets_of

#: Thresholds that segmentations are scored at.
THRESHOLDS = tuple(round(0.02 * step, 2) for step in range(1, 50))

#: The loss is added up over boxes of about so many voxels a side in 3-D, and in 2-D.
_BOX = {3: 64, 2: 512}


@dataclass(frozen=True)
class Validator:
    """Scores a network on volumes.

    Attributes
    ----------
    volumes
        As `prepare_volumes` gives them.
    spec
        What the network is trained towards.
    voxel_size
        In world units.
    merge_function
        By which fragments are merged.
    thresholds
        At which merge trees are cut.
    minimum_size
        True objects of fewer voxels are not scored.
    precision
        Of the convolutions.
    """

    volumes: Sequence[TrainingVolume]
    spec: SampleSpec
    voxel_size: tuple[float, ...]
    merge_function: str = "hist_quant_75"
    thresholds: Sequence[float] = THRESHOLDS
    minimum_size: int = 0
    precision: Precision = "float32"

    def __call__(self, model: Model) -> dict[str, float]:
        """Predict all volumes, and score them.

        Parameters
        ----------
        model : Model
            The network, for evaluation.

        Returns
        -------
        dict of str to float
            The losses: "loss", and one for each prediction. If affinities are predicted, also the "threshold"
            with the lowest variation of information, and "voi_split", "voi_merge" and "voi_sum" there, means
            over the volumes. "score", the lower the better, is "voi_sum", or "loss" where there is none.
        """
        network = Checkpoint(model, self.voxel_size, 0, self.spec.raw_range)
        sums: dict[str, np.ndarray] = {name: np.zeros(2) for name in self.spec.model.predictions}
        curves = []
        for volume in self.volumes:
            raw = volume.read_raw((0,) * volume.ndim, volume.shape)
            predictions = predict(raw, network, precision=self.precision)
            for name, errors in self._errors(volume, predictions).items():
                sums[name] += errors
            if "affinities" in predictions:
                truth = self._truth(volume)
                affinities = predictions["affinities"]
                curves.append(self.scores(affinities, truth))
        found = {name: float(total / max(1, number)) for name, (total, number) in sums.items()}
        found["loss"] = sum(found.values())
        if not curves:
            return found | {"score": found["loss"]}
        means = np.mean(curves, axis=0)
        best = int(np.argmin(means.sum(axis=1)))
        split, merge = map(float, means[best])
        voi = {"voi_split": split, "voi_merge": merge, "voi_sum": split + merge}
        return found | voi | {"threshold": self.thresholds[best], "score": split + merge}

    def scores(self, affinities: np.ndarray, truth: np.ndarray) -> np.ndarray:
        """VOI split and merge of the segmentation of affinities: one row a threshold."""
        neighborhood = self.spec.model.neighborhood
        fragments = extract_fragments(affinities, neighborhood=neighborhood)
        graph = build_region_graph(affinities, fragments, neighborhood)
        tree = agglomerate(graph, self.merge_function)
        table = ContingencyTable.from_volumes(truth, fragments)
        rows = []
        for threshold in self.thresholds:
            lut = tree.cut(threshold)
            found = table.relabel_test(lut.keys, lut.values).scores()
            rows.append((found["voi_split"], found["voi_merge"]))
        return np.array(rows)

    def _errors(self, volume: TrainingVolume, predictions: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Sums of weighted squared errors, and numbers of values, by name."""
        sums = {name: np.zeros(2) for name in predictions}
        for box in _boxes(volume.shape, self.spec.lsd_downsample):
            targets, weights = self._targets(volume, box)
            for name, prediction in predictions.items():
                errors = prediction[(slice(None), *box)] / np.float32(255) - targets[name]
                sums[name] += np.array(
                    [np.sum(weights[name] * errors**2, dtype=np.float64), np.count_nonzero(weights[name])]
                )
        return sums

    def _targets(
        self, volume: TrainingVolume, box: Region
    ) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        step, size = self.spec.lsd_downsample, [s.stop - s.start for s in box]
        # Whole steps of the descriptors; what is beyond the box is cut off again.
        shape = tuple(-(-n // step) * step for n in size)
        margin = self.spec.margin
        begin = [s.start - m for s, m in zip(box, margin, strict=True)]
        end = [s.start + n + m for s, n, m in zip(box, shape, margin, strict=True)]
        found = targets_of(volume.read_labels(begin, end), self.spec, shape)
        cut = (slice(None), *(slice(0, n) for n in size))
        targets, weights = ({name: values[cut] for name, values in part.items()} for part in found)
        return targets, weights

    def _truth(self, volume: TrainingVolume) -> np.ndarray:
        labels = volume.read_labels((0,) * volume.ndim, volume.shape)
        truth = np.where(labels.known != 0, labels.objects, 0)
        return without_dust(truth, self.minimum_size)


def without_dust(labels: np.ndarray, minimum_size: int) -> np.ndarray:
    """Labels without the objects of fewer voxels than this, which become 0.

    Examples
    --------
    >>> without_dust(np.array([4, 4, 9, 0]), 2)
    array([4, 4, 0, 0])
    """
    ids, places, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    return np.where(sizes < minimum_size, 0, ids)[places].reshape(labels.shape).astype(labels.dtype)


def _boxes(shape: Sequence[int], step: int) -> Iterator[Region]:
    side = -(-_BOX[len(shape)] // step) * step
    yield from (
        tuple(slice(b, min(b + side, n)) for b, n in zip(begins, shape, strict=True))
        for begins in itertools.product(*(range(0, n, side) for n in shape))
    )
