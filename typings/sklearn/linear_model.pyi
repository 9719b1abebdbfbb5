from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

class LogisticRegressionCV:
    Cs_: NDArray[np.float64]
    C_: float
    coef_: NDArray[np.float64]
    intercept_: NDArray[np.float64]

    def __init__(
        self,
        *,
        Cs: Sequence[float] = ...,
        cv: StratifiedKFold = ...,
        l1_ratios: Sequence[float] = ...,
        max_iter: int = ...,
        scoring: str = ...,
        tol: float = ...,
        use_legacy_attributes: bool = ...,
    ) -> None: ...
    def fit(self, X: NDArray[np.float64], y: NDArray[np.int64]) -> Self: ...
