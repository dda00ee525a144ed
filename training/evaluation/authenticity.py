"""How far generated images are from training images in features. Whether one is a copy: `copies`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.neighbors import NearestNeighbors


@dataclass(frozen=True)
class Neighbour:
    """Of each of N images its nearest training image: which one [N], and how far away [N]."""

    index: np.ndarray
    distance: np.ndarray


def nearest(train: np.ndarray, images: np.ndarray) -> Neighbour:
    """By features [T, D] and [N, D]."""
    distance, index = NearestNeighbors(n_neighbors=1).fit(train).kneighbors(images)
    return Neighbour(index[:, 0], distance[:, 0])


def authentic(train: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Whether each image is further from its nearest training image than that one is from its own nearest neighbour
    among the others (Alaa et al. 2022, arXiv 2102.08921, section 3.3): bool [N]."""
    neighbours = nearest(train, images)
    distance, _ = NearestNeighbors(n_neighbors=2).fit(train).kneighbors(train)
    return np.asarray(neighbours.distance > distance[neighbours.index, 1])
