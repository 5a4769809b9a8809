"""Parts of `edge.toml` that have a room of their own; `edge_node.config` puts them together."""
