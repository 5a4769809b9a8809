"""What the service did about an item, as spans, made when it is closed from the stages it went through."""

from __future__ import annotations

from itertools import pairwise

from cloud_node.job import Job, Stage, Step
from cloud_node.outcome import Outcome
from fusion.errors import FusionError
from fusion.tracing import Kind, Span, TraceContext, Tracer, span_id, trace_id
from fusion.tracing.span import Value
from fusion.types import ItemState

_NAMES = {
    Stage.FINDING: "ledger lookup",
    Stage.WAITING: "queue",
    Stage.SCORING: "batch review",
    Stage.ASKING: "pixels",
    Stage.EXPLAINING: "rationale",
    Stage.STORING: "commit",
}


def item_spans(tracer: Tracer, job: Job, end: Outcome | FusionError, now_ns: int) -> list[Span]:
    """Spans of `job`, which ends now (monotonic) with an outcome or is given back; none where it is not traced.

    They are under the device's span where it sent one, else a trace of their own under the same id.
    """
    origin = job.submission.trace
    if origin is None:
        trace = trace_id(job.item)
        origin = TraceContext(trace, "", tracer.samples(trace))
    if not origin.sampled:
        return []
    wall_ns = job.received_ns - job.arrival_ns  # one anchor for all, the ledger's
    own = _id(job, "review")
    root = Span(
        "review", origin.trace, own, origin.parent, job.received_ns, now_ns + wall_ns, _attributes(job, end),
        Kind.SERVER, _error(end),
    )  # fmt: skip
    steps = [Step(Stage.FINDING, job.arrival_ns), *job.steps, Step(job.stage, now_ns)]
    spans = [root]
    for number, (step, following) in enumerate(pairwise(steps)):
        name = _NAMES[step.stage]
        began_ns, ended_ns = step.began_ns + wall_ns, following.began_ns + wall_ns
        attributes = _of_step(job, step)
        spans.append(Span(name, origin.trace, _id(job, f"{name} {number}"), own, began_ns, ended_ns, attributes))
    return spans


def _id(job: Job, name: str) -> str:
    """An item may come twice; each receipt has spans of its own."""
    return span_id(job.item, f"{name} @{job.received_ns}")


def _attributes(job: Job, end: Outcome | FusionError) -> dict[str, Value]:
    told: dict[str, Value] = {
        "fusion.item": str(job.item),
        "fusion.device": job.item.sample.device,
        "fusion.evidence.bytes": len(job.submission.blob),
        "fusion.repeated": job.repeated,
    }
    if job.evidence is not None:
        told |= {"fusion.task": job.evidence.task, "fusion.tokens": job.tokens}
    if not isinstance(end, Outcome):
        return told | {"fusion.state": "refused"}
    told["fusion.state"] = end.state.value
    if end.verdict is not None:
        told |= {
            "fusion.reviewer": end.verdict.reviewer,
            "fusion.uncertain": end.verdict.uncertain,
            "fusion.lanes": list(end.verdict.lanes),
        }
    return told


def _error(end: Outcome | FusionError) -> str:
    if isinstance(end, Outcome):
        return "" if end.state is ItemState.REVIEWED else end.reason
    return str(end)


def _of_step(job: Job, step: Step) -> dict[str, Value]:
    """A batch is named by its reviewer and begin, so that an item's batch mates can be found."""
    if step.stage is not Stage.SCORING or job.lane is None:
        return {}
    items, tokens = step.batch
    batch = f"{job.lane.reviewer.name}@{step.began_ns}"
    return {"fusion.batch": batch, "fusion.batch.items": items, "fusion.batch.tokens": tokens}
