"""Looking into a spool beside a running daemon: its items, one of them, whether all is whole, a copy to take along."""
