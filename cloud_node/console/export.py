"""What a search finds, as JSON lines or CSV, page after page while it is sent."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from cloud_node.console.query import MOST, Query, read_query
from cloud_node.console.site import Site
from cloud_node.console.wording import iso
from cloud_node.ledger import AwayError, Correction, Damaged, LedgerReader, Order, Record
from fusion.errors import FusionError, InputError, SpoolError

FORMS = {"jsonl": "application/x-ndjson", "csv": "text/csv; charset=utf-8"}
COLUMNS = (
    "item", "state", "reason", "task", "device", "answered", "value", "reasons", "uncertain", "verdict", "confidence",
    "reviewer", "prompt_sha256", "evidence_sha256", "corrected_by", "corrected", "correction", "note",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def routes(site: Site) -> list[Route]:
    """`/export`: a form, and with `form=jsonl` or `form=csv` the file."""

    def export(request: Request) -> Response:
        told = request.query_params
        query = read_query(told.multi_items(), order=Order.NEWEST)
        form = told.get("form", "")
        if not form:
            return site.render(request, "export.html", query=query)
        if form not in FORMS:
            raise InputError(f"form is {form!r}; it may be {', '.join(FORMS)}")
        records = found(site.backing.reader, query, with_evidence=form == "jsonl" and told.get("evidence") == "yes")
        lines = _jsonl(records) if form == "jsonl" else _csv(records)
        disposition = f'attachment; filename="outcomes.{form}"'
        return StreamingResponse(lines, media_type=FORMS[form], headers={"content-disposition": disposition})

    return [Route("/export", export)]


def found(reader: LedgerReader, query: Query, *, with_evidence: bool) -> Iterator[Record | Damaged]:
    """Everything that a search finds; evidence is read item by item. What is damaged comes after its page."""
    cursor = ""
    while True:
        page = reader.search(query.search, limit=MOST, cursor=cursor)
        for record in page.records:
            yield _whole(reader, record) if with_evidence else record
        yield from page.damaged
        if not (cursor := page.cursor):
            return


def _whole(reader: LedgerReader, record: Record) -> Record | Damaged:
    """The record with its evidence."""
    item = record.outcome.item
    try:
        return reader.one(item, with_evidence=True) or record
    except AwayError:
        raise
    except SpoolError as error:
        return Damaged(str(item), str(error))


def as_json(record: Record, corrections: Sequence[Correction] = ()) -> dict[str, Any]:
    """A record for machines; all `corrections` where they are given, else the one that counts."""
    outcome, verdict = record.outcome, record.outcome.verdict
    said = corrections or ([record.correction] if record.correction else [])
    told: dict[str, Any] = {
        "item": str(outcome.item),
        "state": outcome.state.value,
        "reason": outcome.reason,
        "task": outcome.task,
        "profile": outcome.profile,
        "evidence_sha256": outcome.evidence_sha256,
        "header": dict(outcome.header) if outcome.header is not None else None,
        "timings": {name: getattr(outcome.timings, name) for name in outcome.timings.__slots__},
        "verdict": None,
        "corrections": [
            {"author": one.author, "at_ns": one.at_ns, "answers": dict(one.answers), "note": one.note} for one in said
        ],
    }
    if verdict is not None:
        told["verdict"] = {
            "slots": {
                name: {"option": answer.option, "probabilities": dict(answer.probabilities)}
                for name, answer in verdict.slots.items()
            },
            "uncertain": verdict.uncertain,
            "lanes": list(verdict.lanes),
            "reviewer": verdict.reviewer,
            "prompt_sha256": verdict.prompt_sha256,
            "rationale": verdict.rationale,
        }
    if outcome.evidence is not None:
        told["evidence"] = base64.b64encode(outcome.evidence).decode()
    return told


def as_row(record: Record) -> list[str]:
    """A record as the cells of `COLUMNS`."""
    outcome, verdict, said = record.outcome, record.outcome.verdict, record.correction
    header = outcome.header or {}
    answers = {name: answer.option for name, answer in verdict.slots.items()} if verdict else None
    confidence = min(answer.confidence for answer in verdict.slots.values()) if verdict else None
    cells = (
        outcome.item, outcome.state, outcome.reason, outcome.task, outcome.item.sample.device,
        iso(outcome.timings.answered_ns), header.get("value"), " ".join(header.get("reasons", ())),
        None if verdict is None else verdict.uncertain, answers, confidence,
        verdict and verdict.reviewer, verdict and verdict.prompt_sha256, outcome.evidence_sha256,
        said and said.author, said and iso(said.at_ns), said and dict(said.answers), said and said.note,
    )  # fmt: skip
    return [_cell(value) for value in cells]


def _cell(value: object) -> str:
    """Text that no spreadsheet takes for a formula."""
    if value is None:
        return ""
    text = json.dumps(value) if isinstance(value, dict | bool) else str(value)
    return f"'{text}" if text.startswith(_FORMULA) and isinstance(value, str) else text


def _jsonl(records: Iterable[Record | Damaged]) -> Iterator[str]:
    yield from _until_broken(records, lambda one: _line(as_json(one)), lambda line: _line({"error": line}))


def _csv(records: Iterable[Record | Damaged]) -> Iterator[str]:
    yield _row(COLUMNS)
    yield from _until_broken(records, lambda one: _row(as_row(one)), lambda line: _row([f"error: {line}"]))


def _until_broken(
    records: Iterable[Record | Damaged], write: Callable[[Record], str], tell: Callable[[str], str]
) -> Iterator[str]:
    """Each record, and a line of each that is damaged; where the ledger cannot be read on, the last line says so: the
    status was sent long before.
    """
    try:
        for record in records:
            yield tell(record.line) if isinstance(record, Damaged) else write(record)
    except FusionError as error:
        yield tell(str(error))


def _line(told: object) -> str:
    return json.dumps(told) + "\n"


def _row(cells: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue()
