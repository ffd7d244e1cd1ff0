"""The joins by the product, from its offline log: what makes a training set's matrix.

``python -m bench.ours_join <daily|windows> <questions.parquet> <offline>``: see `bench.contender`. As the peers' it
begins with Parquet on the disk and ends with a float32 matrix.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from bench import declared
from bench.contender import serve
from core.use_case import UseCase
from features.offline.log import OfflineLog
from features.offline.point_in_time import point_in_time_matrix


def join(use_case: UseCase, questions: str, offline: str) -> npt.NDArray[np.float32]:
    """The features of every question."""
    return point_in_time_matrix(OfflineLog(Path(offline)), use_case, pq.read_table(questions).to_pandas())


if __name__ == "__main__":
    use_case, paths = {"daily": declared.daily, "windows": declared.windows}[sys.argv[1]](), sys.argv[2:]
    serve(lambda: join(use_case, *paths), lambda matrix, path: np.save(path, matrix))
