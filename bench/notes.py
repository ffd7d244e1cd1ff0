"""Why figures miss what they should reach: shown below the table for as long as they do."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """What is known of a reason.

    Args:
        what: how the name of the figure begins.
        against: what stands in the name of what it is compared with; "" for anything.
        text: sentences.
    """

    what: str
    against: str
    text: str


NOTES = (
    Note(
        "as-of join, 1M rows x 20 columns: Evergreen",
        "Feast",
        "What is asked comes from a measurement in which Feast took 5.0 s; here its own row counts.",
    ),
    Note(
        "as-of join, memory: Evergreen, added by the join",
        "",
        "The rows of the view (1.4M x 20 float32, 112 MB) are held whole beside the matrix (80 MB), because a question"
        " may need any of them: that alone is more than twice the matrix. The questions and the keys of the rows come"
        " on top.",
    ),
    Note(
        "online read, 1 entity pair x 40",
        "Feast",
        "Most of it is one round trip by redis-py: the row of the bare MGET shows what a tenth of Feast's time leaves"
        " for anything more.",
    ),
)
