"""The offline tool: both nodes' own code on recordings, and what came of it."""
