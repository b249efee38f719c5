"""The page Rejected: dead letters, shown, repaired, redriven, discarded."""
