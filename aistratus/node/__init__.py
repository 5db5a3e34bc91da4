"""The node: what it is told at its first boot, and later how the operator reaches it."""
