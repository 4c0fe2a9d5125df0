"""Losses shared by the methods. All are computed in float32 whatever the autocast policy."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from bench import dist
from trainers.blocks.prototypes import l2


def soft_ce(logits: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy of soft targets: ``-sum_k target_k log softmax(logits)_k``.

    Args:
        logits: (..., K) student scores already divided by the temperature.
        target: (..., K) probabilities; no gradient flows into them.

    Returns:
        (...) float32, one value a row.
    """
    return -(target.detach() * F.log_softmax(logits.float(), -1)).sum(-1)


def info_nce(
    queries: Tensor,
    keys: Tensor,
    temperature: float,
    *,
    positives: Tensor | None = None,
    groups: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """InfoNCE with keys of all processes: ``-log softmax(cos(q, k) / temperature)[positive]``.

    Args:
        queries: (m, d), not normalised; gradients flow.
        keys: (n, d), not normalised; no gradient. ``n`` may differ between processes.
        temperature: of the softmax.
        positives: (m,) int64, the local key that belongs to each query; by default key i to query
            i.
        groups: (m,) and (n,) int64, by which a query meets the local keys of its own group alone.

    Returns:
        Mean over the queries, see ``mean_of_all``.
    """
    all_keys, offset = l2(keys.detach().float()), 0
    if groups is None:
        # Gathered even without queries: the other processes wait for these keys.
        all_keys, offset = dist.all_gather_ragged(all_keys)  # (sum of n, d)
    if len(queries) == 0:
        return mean_of_all(queries.float().sum(1))
    q = l2(queries.float())
    target = torch.arange(len(q), device=q.device) if positives is None else positives
    with torch.autocast(q.device.type, enabled=False):
        logits = q @ all_keys.t() / temperature  # (m, sum of n)
    if groups is not None:
        logits = logits.masked_fill(groups[0][:, None] != groups[1], -torch.inf)
    return mean_of_all(F.cross_entropy(logits, target + offset, reduction="none"))


def mean_of_all(errors: Tensor) -> Tensor:
    """Mean that, averaged over processes, is the mean of the rows of all, however many each has.

    So it weighs rows alike on any number of processes; without a row it is 0 with zero gradients.
    All processes must call it.
    """
    count = dist.all_reduce_sum(errors.new_full((), errors.numel()))
    return errors.sum() * dist.world_size() / count.clamp_min(1)


def masked_regression(
    prediction: Tensor,
    target: Tensor,
    mask: Tensor,
    kind: Literal["mse", "l1", "smooth_l1", "cosine"] = "mse",
) -> Tensor:
    """Regression error, mean over features, then over the masked tokens of the whole batch.

    Args:
        prediction: (b, n, d).
        target: (b, n, d); no gradient flows into it.
        mask: (b, n) bool, True where the error counts.
        kind: the error of one element, or ``cosine``: 1 - cos of a token with its target.
    """
    prediction, target = prediction.float(), target.detach().float()
    if kind == "cosine":
        error = 1 - (l2(prediction) * l2(target)).sum(-1)
    else:
        function = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}[kind]
        error = function(prediction, target, reduction="none").mean(-1)
    return (error * mask).sum() / mask.sum()


def mean_by_image(values: Tensor, image: Tensor, images: int) -> Tensor:
    """Mean of each image's values, then over all images; an image without any counts as 0.

    Args:
        values: (m,), one a masked token.
        image: (m,) int64, the image to which each belongs.
        images: number of images.
    """
    count = torch.zeros(images, dtype=values.dtype, device=values.device)
    count.index_add_(0, image, torch.ones_like(values))
    return (values / count[image]).sum() / images
