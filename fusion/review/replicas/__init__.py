"""Replicas of a reviewer: processes on this machine, or Ray actors on this one or on a cluster's."""
