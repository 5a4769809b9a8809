"""A search as a statement, and its cursor: where the last page ended, opaque to whoever carries it."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

from sqlalchemy import Column, ColumnElement, Row, Select, exists, func, literal, not_, or_, tuple_

from cloud_node.ledger.tables import CORRECTIONS, OUTCOMES
from cloud_node.ledger.values import Order, Search
from fusion.errors import InputError

_SORTED_BY: dict[Order, Column[Any]] = {Order.NEWEST: OUTCOMES.c.answered_ns, Order.VALUE: OUTCOMES.c.value}


def following(statement: Select[Any], search: Search, cursor: str) -> Select[Any]:
    """`statement` of outcomes, narrowed to `search`, sorted, after `cursor`; raises `InputError` for another's."""
    by, number = _SORTED_BY[search.order], OUTCOMES.c.id
    statement = statement.where(*_conditions(search)).order_by(by.desc(), number.desc())
    if not cursor:
        return statement
    value, last = _position(search, cursor)
    return statement.where(tuple_(by, number) < tuple_(literal(value, by.type), literal(last, number.type)))


def cursor_of(search: Search, row: Row[Any]) -> str:
    """The cursor of the page that ends with `row` of `outcomes`."""
    value = row._mapping[_SORTED_BY[search.order].name]
    return urlsafe_b64encode(json.dumps([_digest(search), value, row.id]).encode()).decode()


def _position(search: Search, cursor: str) -> tuple[float, int]:
    try:
        digest, value, last = json.loads(urlsafe_b64decode(cursor))
    except (ValueError, TypeError, RecursionError):
        digest = value = last = None
    if digest != _digest(search) or not (_is_number(value) and _is_number(last)):
        raise InputError("the cursor is not of this search; ask for its first page, without a cursor")
    return value, last


def _is_number(told: object) -> bool:
    return isinstance(told, int | float) and abs(told) < 2**63


def _digest(search: Search) -> str:
    told = {name: getattr(search, name) for name in search.__slots__} | {"slots": dict(search.slots)}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def _has_option(slot: str, option: str) -> ColumnElement[bool]:
    """That a verdict gave a slot this option, read in the text of `slots_to_json`: a damaged row does not end the
    search, as it would with PostgreSQL's functions of JSON. Quotes within strings are escaped, so none holds a match.
    """
    slots, answer = OUTCOMES.c.slots, f'{json.dumps(slot)}: {{"option": {json.dumps(option)}'
    return or_(*(func.replace(slots, before + answer, "") != slots for before in ("{", ", ")))


def _conditions(search: Search) -> Iterator[ColumnElement[bool]]:
    columns = OUTCOMES.c
    equal = {
        columns.task: search.task,
        columns.device: search.device,
        columns.state: search.state and search.state.value,
        columns.uncertain: None if search.uncertain is None else int(search.uncertain),
    }
    yield from (column == wanted for column, wanted in equal.items() if wanted is not None)
    yield from (_has_option(slot, option) for slot, option in search.slots.items())
    if search.since_ns is not None:
        yield columns.answered_ns >= search.since_ns
    if search.before_ns is not None:
        yield columns.answered_ns < search.before_ns
    if search.corrected is not None:
        corrected = exists().where(CORRECTIONS.c.outcome == columns.id)
        yield corrected if search.corrected else not_(corrected)
