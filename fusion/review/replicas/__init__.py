"""Replicas of a reviewer as Ray actors, on this machine or on a cluster's."""
