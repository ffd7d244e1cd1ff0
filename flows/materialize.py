"""The flow that computes batch features and publishes them to the online store."""

from __future__ import annotations

from datetime import datetime, timedelta

from prefect import flow, get_run_logger

from core.decision import Decision
from core.use_case import UseCase
from features.batch.materialization import Publication, materialize_view
from features.definitions import BatchView, feature_set
from features.tables import TableAccess
from flows.context import FlowContext, open_context

ACTOR = "flow materialize"
_REFRESHES = 5000
# a schedule's runs begin some seconds apart from their hour
_SLACK = timedelta(minutes=5)


@flow(name="materialize")
def materialize(use_case: str, as_of: str | None = None, due_only: bool = False) -> dict[str, int]:
    """Bring every batch view of a use case (or of ``all``) up to date: in the offline log and online.

    Args:
        use_case: its name, or ``all``.
        as_of: ISO 8601 moment to compute for; now by default.
        due_only: leave out views computed from events that were published within their `Policy.materialize_every`.

    Returns:
        Generation of each publication that brought rows, by ``<use case>/<view>``.
    """
    context, generations = open_context(), {}
    context.settle()
    problems: list[Exception] = []
    for declared in context.select(use_case):
        name = declared.use_case.name
        for view in feature_set(declared.use_case).batch_views:
            if due_only and not is_due(context, declared.use_case, view, context.moment(name, as_of)):
                continue
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


def is_due(context: FlowContext, use_case: UseCase, view: BatchView, moment: datetime) -> bool:
    """Whether a view has to be refreshed: a table may always hold something new, a computation has its rhythm."""
    if not isinstance(view.source, str):
        return True
    published = context.ledger.entries(use_case.name, kind="materialize", limit=_REFRESHES)
    newest = next(
        (e.as_of for e in published if e.action == "publish" and e.evidence["view"] == view.name and e.as_of), None
    )
    return newest is None or moment - newest >= use_case.policy.materialize_every - _SLACK


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
