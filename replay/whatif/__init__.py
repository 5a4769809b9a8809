"""What if: other sensors, another link, another service; and many such runs side by side."""
