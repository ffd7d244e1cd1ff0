"""MLflow is away for minutes, somebody promotes a version meanwhile, and clients go on asking.

``python -m tests.outage [MINUTES]``, 10 by default, on real components. It ends with 1 unless no client got an error,
the version answered only once MLflow was back, and exactly one deployment came of it.
"""

from __future__ import annotations

import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from core.clock import SystemClock
from core.errors import Unavailable
from serving.promoting import Promotions
from tests.chaos import DEADLINE_S, PAUSE_S
from tests.chaos_stack import ChaosStack
from tests.recording_client import RecordingClients
from tests.serving_stack import USE_CASE

_AFTER_S = 10.0  # in which nothing more may happen


def run(stack: ChaosStack, minutes: float) -> list[str]:
    """Take MLflow away for that long; what must not have been."""
    first, second = stack.register(2)
    stack.want(first)
    stack.until(lambda: stack.is_live(first) and stack.is_whole(), "the first version is not live")
    faults: list[str] = []
    port = stack.settings.gateway.port
    with RecordingClients(port, stack.biases, pause_s=PAUSE_S, timeout_s=2 * DEADLINE_S, feedback=True) as clients:
        stack.stop("mlflow")
        ends = time.monotonic() + 60 * minutes
        with suppress(Unavailable):
            Promotions(stack.registry, stack.ledger, SystemClock()).promote(
                USE_CASE, second, actor="test", reason="it is better"
            )
        while (left := ends - time.monotonic()) > 0:
            if stack.live() != first:
                faults.append(f"version {stack.live()} answers {left:.0f} s before MLflow is back")
                break
            time.sleep(min(left, 1.0))
        stack.start("mlflow")
        began = time.monotonic()
        stack.until(lambda: stack.is_live(second), "the promotion is not carried out")
        print(f"from the start of MLflow to the promoted version: {time.monotonic() - began:.1f} s")  # noqa: T201
        time.sleep(_AFTER_S)
        record = clients.fresh()
    deployed = [each.version for each in reversed(stack.ledger.deployments(USE_CASE))]
    answers = dict(sorted(record.answers.items()))
    print(f"{minutes:g} minutes without MLflow: answers {answers}, deployments {deployed}")  # noqa: T201
    faults += record.faults(DEADLINE_S)
    if record.errors:
        faults.append(f"clients got errors: {dict(record.errors)}")
    if deployed != [first, second]:
        faults.append(f"the deployments are {deployed}")
    return faults


def main() -> int:
    """Do it and print what came out; 0 if nothing is wrong."""
    minutes = float(sys.argv[1]) if sys.argv[1:] else 10.0
    with tempfile.TemporaryDirectory() as folder, ChaosStack(Path(folder)) as stack:
        faults = run(stack, minutes)
    print("\n".join(faults) or "no error, and one deployment")  # noqa: T201
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
