"""Learning from what an environment says of the policy's own actions."""
