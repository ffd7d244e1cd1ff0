"""The generations of a batch view: what each publication brought, in one Parquet file each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from features.offline.files import write_parquet
from features.offline.schemas import conform

Ints = npt.NDArray[np.int64]
_ROWS_AT_ONCE = 4096
_ROWS_READ = 1 << 14
_BUFFER_BYTES = 1 << 18
_ROW_GROUP_ROWS = 1 << 18
"""Every row group has its own dictionary of entities, so there should be few."""
_KEYS = ("entity", "at", "known_at")


@dataclass(frozen=True)
class Generations:
    """Reads and writes the generations in one folder.

    Args:
        folder: where they are; made on the first write.
        table: what errors call it.
    """

    folder: Path
    table: str

    def numbers(self) -> list[int]:
        """The numbers of those there are, oldest first."""
        return sorted(int(path.stem) for path in self.folder.glob("*.parquet"))

    def write(self, generation: int, frame: pd.DataFrame) -> None:
        """Write one, all or nothing; see `features.offline.log.OfflineLog.write_generation`.

        Raises:
            DataError: naming table and column, if a column is missing or of another type.
        """
        table, path = conform(self.table, frame), self._path(generation)
        if not path.exists():
            write_parquet(path, table.schema, iter([table]), _ROW_GROUP_ROWS)

    def frame(self) -> pd.DataFrame:
        """All rows, by generation: ``entity, at, known_at, generation`` and the outputs."""
        parts = [
            pq.read_table(self._path(n)).add_column(3, "generation", _repeated(n, rows)) for n, rows in self._sizes()
        ]
        frame: pd.DataFrame = pa.concat_tables(parts).to_pandas() if parts else pd.DataFrame()
        return frame

    def keys(self, *, has_generation: bool = True) -> pa.Table:
        """All rows without the outputs, entities dictionary-encoded; without any it has no columns.

        Args:
            has_generation: whether the number of each row's generation is among the columns.
        """
        parts = []
        for number, rows in self._sizes():
            part = pq.read_table(self._path(number), columns=list(_KEYS), read_dictionary=["entity"], pre_buffer=False)
            parts.append(part.append_column("generation", _repeated(number, rows)) if has_generation else part)
        return pa.concat_tables(parts) if parts else pa.table({})

    def outputs(self, names: Sequence[str]) -> npt.NDArray[np.float32]:
        """Outputs of all rows side by side, shape (rows, outputs), NaN for null."""
        sizes = self._sizes()
        found = np.empty((sum(rows for _, rows in sizes), len(names)), dtype=np.float32)
        end = 0
        for number, _ in sizes:
            with pq.ParquetFile(self._path(number), buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
                for part in file.iter_batches(_ROWS_READ, columns=list(names), use_threads=False):
                    columns = [part.column(name).to_numpy(zero_copy_only=False) for name in names]
                    begin, end = end, end + part.num_rows
                    _put_side_by_side(columns, found[begin:end])
        return found

    def _path(self, generation: int) -> Path:
        return self.folder / f"{generation:020d}.parquet"

    def _sizes(self) -> list[tuple[int, int]]:
        return [(number, pq.read_metadata(self._path(number)).num_rows) for number in self.numbers()]


def _repeated(number: int, rows: int) -> pa.Array:
    return pa.array(np.full(rows, number, dtype=np.int64))


def _put_side_by_side(columns: Sequence[npt.NDArray[np.float32]], out: npt.NDArray[np.float32]) -> None:
    """Few rows at once, so that what is written stays in the processor's cache."""
    for first in range(0, len(out), _ROWS_AT_ONCE):
        block = out[first : first + _ROWS_AT_ONCE]
        for i, column in enumerate(columns):
            block[:, i] = column[first : first + len(block)]
