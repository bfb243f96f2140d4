"""Arms: geometry, forward kinematics, Jacobians, inverse kinematics."""
