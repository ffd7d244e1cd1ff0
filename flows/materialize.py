"""The flow that computes batch features and publishes them to the online store."""

from __future__ import annotations

from datetime import datetime

from prefect import flow, get_run_logger

from core.decision import Decision
from core.use_case import UseCase
from features.batch.materialization import Publication, materialize_view
from features.definitions import BatchView, feature_set
from features.tables import TableAccess
from flows.context import FlowContext, open_context

ACTOR = "flow materialize"


@flow(name="materialize")
def materialize(use_case: str, as_of: str | None = None) -> dict[str, int]:
    """Bring every batch view of a use case (or of ``all``) up to date: in the offline log and online.

    Args:
        use_case: its name, or ``all``.
        as_of: ISO 8601 moment to compute for; now by default.

    Returns:
        Generation of each publication that brought rows, by ``<use case>/<view>``.
    """
    context, generations = open_context(), {}
    context.settle()
    problems: list[Exception] = []
    for declared in context.select(use_case):
        name = declared.use_case.name
        for view in feature_set(declared.use_case).batch_views:
            try:
                done = publish_view(context, declared.use_case, view, context.moment(name, as_of))
            except Exception as problem:  # a view that cannot be computed must not keep the others from it
                get_run_logger().error("%s/%s: %s", name, view.name, problem)
                problems.append(problem)
                continue
            if done.rows:
                generations[f"{name}/{view.name}"] = done.generation
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ExceptionGroup("some views could not be computed", problems)
    get_run_logger().info("published %s", ", ".join(generations) or "nothing")
    return generations


def publish_view(context: FlowContext, use_case: UseCase, view: BatchView, moment: datetime) -> Publication:
    """Compute and publish what is new of one view, and record it."""
    settings = context.settings
    databases = {name: url.get_secret_value() for name, url in settings.databases.items()}
    done = materialize_view(
        context.redis,
        context.keys,
        context.log,
        use_case,
        view,
        moment,
        access=TableAccess(settings.data_dir, databases),
        partitions=settings.stream.partitions,
        expire=settings.clock == "system",
    )
    evidence = {"view": view.name, "rows": done.rows, "dropped": done.dropped, "generation": done.generation}
    if done.rows:
        decision = Decision("publish", f"{view.name}: {done.rows} rows", evidence)
    else:
        decision = Decision("skip", f"{view.name}: nothing new to publish", evidence)
    context.ledger.record(use_case.name, "materialize", decision, actor=ACTOR, as_of=moment)
    return done
