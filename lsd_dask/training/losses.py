"""The loss of the paper: weighted mean squared errors, summed over what a network predicts."""

from collections.abc import Mapping

from ..networks.pytorch import torch

type Tensors = Mapping[str, torch.Tensor]


def weighted_mse(
    prediction: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None
) -> torch.Tensor:
    """Weighted mean squared error, over all values.

    Parameters
    ----------
    prediction, target : Tensor of float
        Of one shape.
    weight : Tensor of float, optional
        Of the same shape; values of weight 0 count neither in the sum nor in the number it is divided by.

    Returns
    -------
    Tensor
        One number: ``sum(weight * (prediction - target)**2) / number of weights that are not 0``; 0 if all
        are.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> values = torch.tensor([0.0, 1.0, 0.5])
    >>> weighted_mse(values, torch.zeros(3), torch.tensor([1.0, 1.0, 0.0])).item()
    0.5
    """
    shapes = {tuple(t.shape) for t in (prediction, target, weight) if t is not None}
    if len(shapes) > 1:
        raise ValueError(f"found tensors of the shapes {sorted(shapes)}, expected one shape")
    squares = (prediction - target) ** 2
    if weight is None:
        return squares.mean()
    return (weight * squares).sum() / torch.count_nonzero(weight).clamp(min=1)


def losses(
    predictions: Tensors, targets: Tensors, weights: Tensors, factors: Mapping[str, float] | None = None
) -> dict[str, torch.Tensor]:
    """The loss of each prediction, and their sum under the name "loss".

    Parameters
    ----------
    predictions, targets, weights : mapping of str to Tensor
        By name: "affinities", "lsds".
    factors : mapping of str to float, optional
        How much each counts in the sum; 1 where nothing is said.

    Returns
    -------
    dict of str to Tensor

    Raises
    ------
    ValueError
        If there is a prediction without target or weight.

    References
    ----------
    .. [1] A. Sheridan et al., "Local shape descriptors for neuron segmentation", Nature Methods 20, 2023.
       https://doi.org/10.1038/s41592-022-01711-z
    """
    missing = [name for name in predictions if name not in targets or name not in weights]
    if missing or not predictions:
        raise ValueError(
            f"found predictions of {list(predictions)}, targets of {list(targets)} and weights of "
            f"{list(weights)}: expected all three for each"
        )
    each = {name: weighted_mse(p, targets[name], weights[name]) for name, p in predictions.items()}
    total = torch.stack([(factors or {}).get(name, 1.0) * loss for name, loss in each.items()]).sum()
    return {"loss": total, **each}
