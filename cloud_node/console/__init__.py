"""The review console: a web page beside the service, for people who watch, correct and take away.

`serving` runs it in a thread with an event loop of its own, so that no page holds up a review. It reads through a
`LedgerReader` and writes corrections alone, through whoever owns the ledger (`backing`).
"""
