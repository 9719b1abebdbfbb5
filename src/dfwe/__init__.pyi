from .errors import UserError as UserError
from .weights.preflight import preflight as preflight
from .weights.space import WeightSpace as WeightSpace

__all__ = ["UserError", "WeightSpace", "preflight"]
__version__: str
