"""Which digest a version has by the ledger, where whoever may write in the registry cannot change it."""

from __future__ import annotations

from core.errors import DigestMismatch, UnsafeArtifact
from core.ledger import Ledger

DIGEST = "digest"


def anchored(ledger: Ledger, use_case: str, version: str) -> str | None:
    """SHA-256 of a version's manifest: from the gate's verdict on it, else from when it was first deployed.

    Returns:
        None if neither has it: the version was registered by hand, or by an earlier release.
    """
    for gate in reversed(ledger.entries(use_case, kind="gate", version=version)):  # the first one counts
        if gate.evidence.get(DIGEST):
            return str(gate.evidence[DIGEST])
    for deployment in reversed(ledger.deployments(use_case)):
        if deployment.version == version and deployment.evidence.get(DIGEST):
            return str(deployment.evidence[DIGEST])
    return None


def require_anchored(ledger: Ledger, use_case: str, version: str, found: str) -> None:
    """Return if a version's manifest is the one the ledger knows, or the ledger knows none and it is no other's.

    Args:
        ledger: where digests are anchored.
        use_case: whose version.
        version: which.
        found: SHA-256 of the manifest that was fetched.

    Raises:
        DigestMismatch: if it is another one than was judged.
        UnsafeArtifact: if it is another version's.
    """
    expected = anchored(ledger, use_case, version)
    if expected is not None and expected != found:
        raise DigestMismatch("The manifest", expected, found)
    if expected is None and (other := _owner(ledger, use_case, found)) not in (None, version):
        raise UnsafeArtifact("The manifest", f"is that of version {other}, offered again as {version}")


def _owner(ledger: Ledger, use_case: str, digest: str) -> str | None:
    """The version that has a digest by the ledger."""
    for gate in ledger.entries(use_case, kind="gate"):
        if gate.evidence.get(DIGEST) == digest:
            return gate.version
    found = (each.version for each in ledger.deployments(use_case) if each.evidence.get(DIGEST) == digest)
    return next(found, None)
