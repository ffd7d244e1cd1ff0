"""The receiving end of a dispatch, for the workflow: ``python -m flows.dispatched verify|retrain PAYLOAD.json``.

``verify`` checks the signature alone. ``retrain`` also asks the ledger whether it knows the decision, and runs the
retrain in this process; one that was delivered already is not done twice.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from core.clock import parse_moment
from core.dispatch import Dispatch, DispatchRefused, read_dispatch
from core.errors import EvergreenError
from core.ledger import Ledger
from core.logs import configure_logging
from core.settings import Settings, load_settings

DONE, NO, USAGE = 0, 1, 2


def verified(settings: Settings, path: Path) -> Dispatch:
    """The dispatch in a file, if its signature is right.

    Raises:
        DispatchRefused: if not, or if there is none.
    """
    try:
        payload = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DispatchRefused(f"{path} holds no JSON ({error})") from error
    if not isinstance(payload, dict):
        raise DispatchRefused(f"{path} holds no object")
    return read_dispatch(payload, settings.github.secret.get_secret_value().encode())


def require_called_for(ledger: Ledger, asked: Dispatch) -> None:
    """Return if the ledger holds the decision that a dispatch names.

    Raises:
        DispatchRefused: if it does not, or if it decided something else.
    """
    entry = ledger.entry(int(asked.decision_id)) if asked.decision_id.isdecimal() else None
    if entry is None or (entry.kind, entry.action) != ("trigger", "retrain"):
        raise DispatchRefused(f"the ledger has no decision {asked.decision_id} to retrain")
    if (entry.use_case, entry.as_of) != (asked.use_case, parse_moment(asked.as_of)):
        raise DispatchRefused(f"decision {entry.id} is of {entry.use_case} as of {entry.as_of.isoformat()}")


def retrain_dispatched(settings: Settings, asked: Dispatch) -> str:
    """Run the retrain that was asked for; what came of it, in one sentence."""
    from prefect.settings import PREFECT_API_URL, temporary_settings

    from flows.retrain import retrain

    ledger = Ledger(settings.ledger_url)
    try:
        ledger.migrate()
        require_called_for(ledger, asked)
    finally:
        ledger.close()
    with temporary_settings({PREFECT_API_URL: settings.prefect_api_url}):
        return retrain(asked.use_case, asked.as_of, asked.reason, asked.decision_id)


def main(arguments: Sequence[str]) -> int:
    """Run one; 0: done, 1: refused or failed, 2: wrong usage."""
    if len(arguments) != 2 or arguments[0] not in ("verify", "retrain"):
        sys.stderr.write("usage: python -m flows.dispatched verify|retrain PAYLOAD.json\n")
        return USAGE
    try:
        settings = load_settings()
        asked = verified(settings, Path(arguments[1]))
        said = f"{asked.use_case} as of {asked.as_of}, decision {asked.decision_id}"
        sys.stdout.write(f"The dispatch is Evergreen's: {said}.\n")
        if arguments[0] == "retrain":
            configure_logging(settings.log_level, settings.log_format)
            sys.stdout.write(f"{retrain_dispatched(settings, asked)}\n")
    except EvergreenError as error:
        sys.stderr.write(f"{error}\n")
        return NO
    return DONE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
