"""The page a person opens: one HTML file with pictures, readable without a network."""
