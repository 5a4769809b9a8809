"""Who runs a plan's jobs: this process, worker processes, or Ray actors; what they tell meanwhile."""
