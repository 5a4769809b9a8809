"""Groups of requests on a ledger that fails in part, or altogether."""

import asyncio

import pytest

from cloud_node.journal import Journal
from cloud_node.ledger import AwayError, Correction, DeviceReport
from cloud_node.metrics import Metrics
from cloud_node.outcome import Outcome
from fusion.errors import InputError, SpoolError
from fusion.types import ItemId, ItemState, LedgerCounts, SampleId


def item(sequence):
    return ItemId(SampleId("cart-1", "0" * 16, sequence), 1)


class FakeLedger:
    """Fails as told and counts its calls."""

    def __init__(self, error=None, bad=()):
        self.error, self.bad, self.calls = error, bad, 0
        self.reports = []

    def find(self, items):
        self.calls += 1
        if self.error is not None:
            raise self.error
        if any(one.sample.sequence in self.bad for one in items):
            raise SpoolError("a damaged row")
        return [None] * len(items)

    def store(self, outcomes):
        self.find([outcome.item for outcome in outcomes])
        return outcomes

    def probe(self):
        if self.error is not None:
            raise self.error

    def store_reports(self, reports):
        self.reports.append(list(reports))
        if any(report.device in self.bad for report in reports):
            raise SpoolError("a report that cannot be stored")

    def record_correction(self, correction):
        self.find([correction.item])
        raise InputError(f"{correction.item} has no outcome")

    def close(self):
        pass


def ask(ledger, *, healthy):
    """All kinds of requests at once; what each got."""

    async def run():
        journal = Journal(ledger, Metrics())
        futures = [journal.find(item(n)) for n in range(1, 6)]
        futures += [journal.store(Outcome(item(n), ItemState.SHED, "")) for n in range(1, 6)]
        futures += [journal.record_correction(Correction(item(n), "ada", n, {"object": "drum"})) for n in (1, 2)]
        running = asyncio.create_task(journal.run())
        got = await asyncio.gather(*futures, return_exceptions=True)
        assert journal.failing is not healthy
        running.cancel()
        journal.close()
        return got

    return asyncio.run(run())


def test_a_ledger_that_is_away_is_asked_once_a_group():
    """Each attempt may take as long as a connection does; hundreds in a row would look like a hanging service."""
    ledger = FakeLedger(AwayError("no answer within 15 s"))
    got = ask(ledger, healthy=False)
    assert {type(one) for one in got} == {AwayError}
    assert ledger.calls == 1


def test_a_ledger_that_was_only_looked_into_is_away_as_well():
    """After an outage begins, every item fails where it is looked up, and none is stored any more."""
    ledger = FakeLedger(AwayError("no answer within 15 s"))

    async def run():
        journal = Journal(ledger, Metrics())
        running = asyncio.create_task(journal.run())
        with pytest.raises(AwayError):
            await journal.find(item(1))
        assert journal.failing
        ledger.error = None
        await journal.find(item(1))
        assert not journal.failing
        running.cancel()
        journal.close()

    asyncio.run(run())


def test_a_row_that_fails_hurts_nobody_else():
    got = ask(FakeLedger(bad=(3,)), healthy=True)
    assert [isinstance(one, SpoolError) for one in got[:10]] == [n == 3 for n in range(1, 6)] * 2


def test_a_refused_correction_is_told_to_whoever_made_it():
    got = ask(FakeLedger(), healthy=True)
    assert [type(one) for one in got[10:]] == [InputError, InputError]
    with pytest.raises(InputError, match="no outcome"):
        raise got[10]


def report(device, received_ns):
    return DeviceReport(device, "0" * 16, received_ns, LedgerCounts(received_ns, 0, {}))


def reported(ledger, reports):
    """What the ledger was asked to store when all of `reports` came at once, and then another look-up."""

    async def run():
        journal = Journal(ledger, Metrics())
        running = asyncio.create_task(journal.run())
        for one in reports:
            journal.store_report(one)
        await journal.find(item(1))
        assert ledger.reports == [], "a look-up waits for reports"
        await journal.flush()
        running.cancel()
        journal.close()

    asyncio.run(run())
    return ledger.reports


def test_of_a_devices_reports_only_the_newest_waits_and_all_are_stored_together():
    flood = [report("cart-1", n) for n in range(1, 3001)]
    assert reported(FakeLedger(), [*flood, report("cart-2", 7)]) == [[flood[-1], report("cart-2", 7)]]


def test_a_report_that_cannot_be_stored_hurts_no_other():
    first, bad, last = report("cart-1", 1), report("cart-2", 1), report("cart-3", 1)
    assert reported(FakeLedger(bad=("cart-2",)), [first, bad, last])[1:] == [[first], [bad], [last]]


def test_reports_are_stored_soon_without_anybody_waiting():
    ledger = FakeLedger()

    async def run():
        journal = Journal(ledger, Metrics())
        running = asyncio.create_task(journal.run())
        for n in (1, 2):
            journal.store_report(report("cart-1", n))
            async with asyncio.timeout(30):
                while len(ledger.reports) < n:
                    await asyncio.sleep(0.01)
        running.cancel()
        journal.close()

    asyncio.run(run())
    assert ledger.reports == [[report("cart-1", 1)], [report("cart-1", 2)]]


@pytest.mark.parametrize("error", [SpoolError("disk full"), AwayError("no answer within 15 s")], ids=["full", "away"])
def test_a_ledger_that_works_again_is_noticed_though_nobody_asks(monkeypatch, error):
    monkeypatch.setattr("cloud_node.journal.PROBE_S", 0.05)
    ledger = FakeLedger(error)

    async def run():
        journal = Journal(ledger, Metrics())
        running = asyncio.create_task(journal.run())
        with pytest.raises(SpoolError):
            await journal.store(Outcome(item(1), ItemState.SHED, ""))
        await asyncio.sleep(0.3)
        assert journal.failing
        ledger.error = None
        async with asyncio.timeout(30):
            while journal.failing:
                await asyncio.sleep(0.01)
        running.cancel()
        journal.close()

    asyncio.run(run())


def test_any_write_shows_that_a_ledger_works_again():
    ledger = FakeLedger(SpoolError("disk full"))

    async def run():
        journal = Journal(ledger, Metrics())
        running = asyncio.create_task(journal.run())
        with pytest.raises(SpoolError):
            await journal.store(Outcome(item(1), ItemState.SHED, ""))
        ledger.error = None
        await journal.find(item(1))
        assert journal.failing, "a look-up shows nothing of writes"
        journal.store_report(report("cart-1", 1))
        await journal.flush()
        assert not journal.failing
        running.cancel()
        journal.close()

    asyncio.run(run())
