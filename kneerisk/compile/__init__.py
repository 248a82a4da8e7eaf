"""From a stack's networks to something that runs: the choice, the build, the verification."""
