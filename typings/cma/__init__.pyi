from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

class CMAEvolutionStrategy:
    popsize: int

    def __init__(
        self, x0: NDArray[np.float64], sigma0: float, inopts: Mapping[str, object] | None = None
    ) -> None: ...
    def ask(self) -> list[NDArray[np.float64]]: ...
    def tell(
        self, solutions: Sequence[NDArray[np.float64]], function_values: Sequence[float]
    ) -> None: ...
    def stop(self) -> Mapping[str, object]: ...
