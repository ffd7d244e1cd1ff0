"""Imported once by the process that flow runs are forked from (see `flows.warm`): whatever flows need and is slow.

Only imports: nothing here may start a thread or open a connection, a fork would inherit half of it.
"""

from __future__ import annotations

import logging
from importlib import import_module

MODULES = (
    "prefect.engine",
    "prefect.flow_engine",
    "prefect.task_engine",
    "prefect.events.clients",
    "pandas",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "sqlalchemy.dialects.sqlite",
    "evidently.metrics",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "onnx",
    "onnxruntime",
    "prefect.artifacts",
    "sklearn.ensemble",
    "sklearn.pipeline",
    "skl2onnx",
    "mlflow",
    "flows.materialize",
    "flows.monitor",
    "flows.retrain",
    "flows.versions",
    "flows.deploy",
    "flows.warm",
    "registry.mlflow_registry",
    "registry.plots",
)

for _name in MODULES:
    try:
        import_module(_name)
    except ImportError as _error:  # the flow that needs it will say so; the others can run
        logging.getLogger(__name__).warning("not preloaded: %s (%s)", _name, _error)
