from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

def adjusted_rand_score(
    labels_true: Sequence[str] | Sequence[int], labels_pred: Sequence[str] | Sequence[int]
) -> float: ...
def silhouette_score(
    X: NDArray[np.float64], labels: NDArray[np.int64], *, metric: str = ...
) -> float: ...
