from .errors import UserError as UserError
from .weights.loading import load_model as load_model
from .weights.preflight import preflight as preflight
from .weights.space import WeightSpace as WeightSpace

__all__ = ["UserError", "WeightSpace", "load_model", "preflight"]
__version__: str
