from collections.abc import Iterator
from pathlib import Path

from pyarrow import RecordBatch, Schema

class ParquetFile:
    def __init__(self, source: Path) -> None: ...
    @property
    def schema_arrow(self) -> Schema: ...
    def iter_batches(self, batch_size: int = 65536) -> Iterator[RecordBatch]: ...
