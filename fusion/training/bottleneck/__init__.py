"""A learned bottleneck: the trunk's projections to int8 codes, learnt for what the reviewer makes of them and for what
they cost, instead of taken from the maps' own statistics.

The detector itself stays as it is, so what learns are a matrix and a bias a level inside the same graph, and what
comes out is evidence in the same container under a new profile.
"""
