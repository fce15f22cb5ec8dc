"""Gates: feature blocks enter a meta-learner only where they lower the out-of-fold loss.

Belongs here: the rules of a gate (`rules`), the gate of any estimator (`gate`, `trials`), the linear
member with its own joint search of penalty and scales (`gated_linear`, `linear_gate`,
`forward_selection`, `penalty_search`, `linear_solver`), and the penalty path of plain linear
estimators (`penalty`). Not here: how rows become columns (`meta.columns`).
"""
