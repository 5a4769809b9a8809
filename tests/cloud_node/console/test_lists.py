"""Triage and search: what they find, in which order, page after page, and that a URL says it all."""

import contextlib
import re
import sqlite3
from datetime import datetime
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud_node.console.query import read_query
from cloud_node.ledger import Correction, Order
from fusion.errors import InputError
from fusion.types import ItemState

from .conftest import BEGAN_NS, HOSTILE, ITEMS, REFUSED, UNKNOWN, fields_of, item, path_of

TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20).map(str.strip)
CONDITIONS = st.fixed_dictionaries(
    {},
    optional={
        "order": st.sampled_from([one.value for one in Order]),
        "task": TEXT,
        "device": TEXT,
        "state": st.sampled_from([one.value for one in ItemState]),
        "uncertain": st.sampled_from(["yes", "no", ""]),
        "corrected": st.sampled_from(["yes", "no", ""]),
        "since": st.datetimes(datetime(1971, 1, 1), datetime(2261, 1, 1)).map(lambda one: one.isoformat()),
        "slot.object": TEXT,
        "limit": st.integers(1, 200).map(str),
    },
)


def found(client, address):
    """Sequences on a page, in its order, and where its next page is."""
    text = client.get(address).text
    sequences = [int(one) for one in re.findall(r'href="/item/cart-1/\w+/(\d+)/1\?', text)]
    following = re.search(r'rel="next" href="([^"]+)"', text)
    return sequences, following[1].replace("&amp;", "&") if following else None


def test_triage_shows_what_is_worth_most_and_nobody_corrected(local, ledger):
    ledger.record_correction(Correction(item(11), "ann", BEGAN_NS, {"object": "cone"}))
    assert found(local, "/triage")[0] == [12, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert found(local, "/triage?corrected=yes")[0] == [11]
    assert found(local, "/triage?corrected=")[0] == [*range(ITEMS, 0, -1)]


def test_search_shows_the_newest_first(local):
    assert found(local, "/search")[0] == [*range(ITEMS, 0, -1)]
    assert found(local, f"/search?state={ItemState.QUARANTINED}")[0] == [REFUSED]
    assert found(local, "/search?device=nobody")[0] == []


def test_filters_narrow(local, outcomes):
    sure = [one for one in outcomes if one.verdict and not one.verdict.uncertain]
    assert sorted(found(local, "/search?uncertain=no")[0]) == [one.item.sample.sequence for one in sure]
    option = outcomes[0].verdict.slots["object"].option
    same = [
        one.item.sample.sequence for one in outcomes if one.verdict and one.verdict.slots["object"].option == option
    ]
    assert sorted(found(local, f"/search?slot.object={option}")[0]) == same
    minute = "2023-11-14T22:15"  # of the second item (BEGAN_NS is 22:13:20)
    assert found(local, f"/search?before={minute}")[0] == [1]
    assert found(local, f"/search?since={minute}")[0] == [*range(ITEMS, 1, -1)]


def test_pages_follow_each_other_without_gap_or_repeat(local):
    seen, address = [], "/triage?limit=5"
    while address:
        sequences, address = found(local, address)
        assert len(sequences) <= 5
        seen += sequences
    assert seen == [*range(ITEMS, 0, -1)]


@pytest.mark.parametrize("name", ["search", "triage"])
def test_a_damaged_row_is_told_in_its_list_and_walked_past(local, tmp_path, name):
    with sqlite3.connect(tmp_path / "ledger.db") as database:
        database.execute("UPDATE outcomes SET epoch = '<b>' WHERE sequence = 8")
    database.close()
    sequences, following = found(local, f"/{name}?limit=5")
    assert sequences == [12, 11, 10, 9]
    text = local.get(f"/{name}?limit=5").text
    assert re.search(r"cart-1/&lt;b&gt;/8#1</th>\s*<td[^>]*><span class=\"chip bad\">damaged</span> [^<]*digest", text)
    assert found(local, following)[0] == [7, 6, 5, 4, 3]
    assert local.get(path_of(9) + f"?list={name}&limit=4").text.count(path_of(7)) > 0


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("order=best", "order"),
        ("state=lost", "state"),
        ("uncertain=perhaps", "uncertain"),
        ("since=yesterday", "since"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("slot.a$b=c", "slot"),
        ("cursor=nonsense", "cursor"),
        ("device=" + "x" * 201, "device"),
        ("since=0001-01-01T00:00", "time"),
    ],
)
def test_a_wrong_condition_is_named_on_the_page(local, query, named):
    answer = local.get(f"/search?{query}")
    assert answer.status_code == 400
    assert named in re.search(r'role="alert">([^<]+)<', answer.text)[1]


@given(CONDITIONS)
def test_a_query_read_from_its_own_url_is_the_same(conditions):
    query = read_query(conditions.items(), order=Order.VALUE, corrected="no")
    again = read_query(parse_qsl(query.url(), keep_blank_values=True), order=Order.VALUE, corrected="no")
    assert again == query


@given(
    st.lists(
        st.tuples(st.sampled_from(["order", "task", "state", "since", "slot.x", "slot.", "limit", "cursor"]), st.text())
    )
)
def test_a_query_is_read_or_refused(told):
    with contextlib.suppress(InputError):
        read_query(told, order=Order.NEWEST)


def test_whatever_a_ledger_holds_is_escaped(local, ledger, backing):
    fields = fields_of(local, path_of(1))
    note = f"{HOSTILE} \u202e ẞ"
    assert local.post(path_of(1), data={**fields, "note": note, "action": "save"}).status_code == 303
    for address in ("/search", path_of(1), path_of(UNKNOWN), path_of(REFUSED), "/devices"):
        text = local.get(address).text
        assert "<script>alert" not in text, address
        assert text.count("<script") == 1, address
    assert "&lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt;" in local.get(path_of(UNKNOWN)).text
    assert local.get("/search?device=" + HOSTILE).text.count("<script") == 1
    assert backing.reader.corrections(item(1))[0].note == note
