"""Gates: feature blocks enter a meta-learner only where they lower the out-of-fold loss.

Belongs here: blocks, their scales and the criterion of a gate (`blocks`, `readout_blocks`); the gate of any
estimator and the penalty of plain linear ones (`estimator_gate`), by short fits where the estimator is no linear
model (`screened_gate`); the linear member with its joint search of penalty, readouts and scales (`gated_linear`,
`linear_gate`, `forward_selection`, `cross_validation`, `opinion_pool`, `linear_solver`).
Not here: how rows become columns (`meta.columns`).
"""
