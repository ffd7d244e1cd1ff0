"""MLflow's scoring server: a pyfunc written by hand. Runs in the product's environment, which pins MLflow.

``python -m bench.servers.app_mlflow <folder>`` writes the model.
"""

from __future__ import annotations

import sys
from typing import Any

import mlflow.pyfunc
import redis

from bench.servers import told
from bench.servers.scoring import Network, keys, matrix
from bench.workload import FIELDS


class Ranker(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """Scores the ads of a call."""

    def load_context(self, context: Any) -> None:
        """Connect and load."""
        self._store = redis.Redis(host="127.0.0.1", port=told.redis_port())
        self._network = Network(told.model())

    def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
        """Answer one call: ``user`` [1], ``ads`` [1, n] and ``fields`` [1, 8]."""
        fields = model_input["fields"][0].tolist()
        call = {"user": int(model_input["user"][0]), "ads": model_input["ads"][0].tolist()}
        call |= dict(zip(FIELDS, fields, strict=True))
        return self._network.scores(matrix(call, self._store.mget(keys(call))))


if __name__ == "__main__":
    mlflow.pyfunc.save_model(
        sys.argv[1], python_model=Ranker(), pip_requirements=[], conda_env=None, infer_code_paths=False
    )
