"""What a race over data sets consists of: sets with their splits, entrants, measured processes, tables."""
