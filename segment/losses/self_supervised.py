"""Losses and measures of pretraining on two views of each patch."""

from __future__ import annotations

import torch
from monai.losses import ContrastiveLoss
from torch import Tensor
from torch.nn import functional


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss: the normalised temperature-scaled cross entropy (Chen et al. 2020, arXiv 2002.05709, eq. 1).

    Args:
        first: (batch, features), embeddings of the first views.
        second: (batch, features), of the second views of the same patches.
        temperature: Divides the cosine similarities.

    Returns:
        Scalar, float32, mean over the 2 batch views; the other 2 batch - 2 views are each one's negatives.
    """
    loss: Tensor = ContrastiveLoss(temperature=temperature)(first.float(), second.float())
    return loss


def byol_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """BYOL's loss: squared distance of normalised vectors, 2 - 2 cosine (Grill et al. 2020, arXiv 2006.07733, eq. 2).

    Args:
        prediction: (batch, features), of the online network from one view.
        target: (batch, features), of the target network from the other view.

    Returns:
        Scalar, float32, mean over the batch, 0 to 4.
    """
    return 2 - 2 * functional.cosine_similarity(prediction.float(), target.float(), dim=1).mean()


@torch.no_grad()
def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of the normalised embeddings of two views of a patch; 0 is best.

    Wang and Isola 2020, arXiv 2005.10242, eq. 3 with alpha 2.

    Args:
        first: (batch, features).
        second: (batch, features).
    """
    return (functional.normalize(first.float()) - functional.normalize(second.float())).square().sum(1).mean()


@torch.no_grad()
def uniformity(embeddings: Tensor) -> Tensor:
    """Logarithm of the mean Gaussian potential of pairs of normalised embeddings; lower is more uniform.

    Wang and Isola 2020, arXiv 2005.10242, eq. 4 with t = 2. 0 where all embeddings are equal.

    Args:
        embeddings: (batch, features), of different patches; a batch of at least two.
    """
    return torch.pdist(functional.normalize(embeddings.float())).square().mul(-2).exp().mean().log()


@torch.no_grad()
def spread(embeddings: Tensor) -> Tensor:
    """Standard deviation of the normalised embeddings, times the root of their length: 0 collapsed, 1 on a sphere.

    Chen and He 2021 (SimSiam), arXiv 2011.10566, sec. 4.1.

    Args:
        embeddings: (batch, features); a batch of at least two.
    """
    return functional.normalize(embeddings.float()).std(0).mean() * embeddings.shape[1] ** 0.5
