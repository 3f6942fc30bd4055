"""Features in two dimensions."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.manifold import TSNE


def tsne(features: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Features (N, D) by their direction in two dimensions (N, 2), near ones near to each other.

    t-SNE (van der Maaten and Hinton, JMLR 2008) at a perplexity of 30, or less of a few clips; of
    less than four there is no map, and their places say nothing.
    """
    count = len(features)
    if count < 4:
        return np.eye(count, 2, dtype=np.float32)
    direction = F.normalize(torch.from_numpy(features), dim=1)
    found = TSNE(perplexity=min(30, (count - 1) / 3), init="pca", random_state=seed)
    return np.asarray(found.fit_transform(direction.numpy()))
