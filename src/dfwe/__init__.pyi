from .errors import UserError as UserError
from .weights.loading import load_model as load_model
from .weights.merge import dare as dare
from .weights.merge import task_arithmetic as task_arithmetic
from .weights.merge import ties as ties
from .weights.preflight import preflight as preflight
from .weights.space import WeightSpace as WeightSpace

__all__ = [
    "UserError",
    "WeightSpace",
    "dare",
    "load_model",
    "preflight",
    "task_arithmetic",
    "ties",
]
__version__: str
