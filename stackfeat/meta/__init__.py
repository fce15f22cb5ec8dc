"""How predictions are combined: votes, gated meta-learners, the columns they read. Arrays in, arrays out."""
