"""The least an online read can be: one MGET by redis-py and `np.frombuffer`.

``python -m bench.bare_online <port> <shape> <calls>``: see `bench.contender`. Runs in the product's environment, with
the product's client.
"""

from __future__ import annotations

import sys
from typing import cast

import numpy as np
import numpy.typing as npt
import redis

from bench.contender import serve
from bench.data import COLUMNS, ONLINE_ENTITIES, online_questions, online_values
from bench.redis_server import connect
from bench.shapes import SHAPES, Shape

Matrix = npt.NDArray[np.float32]


def fill(client: redis.Redis, shape: Shape) -> None:
    """Store what the shape's views hold."""
    for view in shape.views:
        values = online_values(view)
        client.mset({f"bare:{view}:{i}": values[i].tobytes() for i in range(ONLINE_ENTITIES)})


def read(client: redis.Redis, shape: Shape, entities: list[int]) -> Matrix:
    """The vectors of some entities, shape (entities, 20 x views)."""
    found = cast(list[bytes], client.mget([f"bare:{view}:{i}" for i in entities for view in shape.views]))
    return np.frombuffer(b"".join(found), dtype=np.float32).reshape(len(entities), len(shape.views) * len(COLUMNS))


if __name__ == "__main__":
    client, shape = connect(int(sys.argv[1])), SHAPES[sys.argv[2]]
    questions = online_questions(int(sys.argv[3]), shape.entities).tolist()
    fill(client, shape)
    serve(lambda: [read(client, shape, q) for q in questions], lambda found, path: np.save(path, np.stack(found)))
