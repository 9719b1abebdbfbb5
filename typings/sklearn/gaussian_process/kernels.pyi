Bounds = tuple[float, float]

class Kernel:
    def __add__(self, b: Kernel) -> Kernel: ...
    def __mul__(self, b: Kernel) -> Kernel: ...

class ConstantKernel(Kernel):
    def __init__(
        self, constant_value: float = 1.0, constant_value_bounds: Bounds = (1e-5, 1e5)
    ) -> None: ...

class Matern(Kernel):
    def __init__(
        self,
        length_scale: float = 1.0,
        length_scale_bounds: Bounds = (1e-5, 1e5),
        nu: float = 1.5,
    ) -> None: ...

class WhiteKernel(Kernel):
    def __init__(
        self, noise_level: float = 1.0, noise_level_bounds: Bounds = (1e-5, 1e5)
    ) -> None: ...
