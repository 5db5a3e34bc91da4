"""EC2 instances: re-exports the kinds of key pairs, instances, and what an instance may leave behind."""

from __future__ import annotations

from aistratus.resources.instances import Instance
from aistratus.resources.key_pairs import KeyPair
from aistratus.resources.leftovers import NetworkInterface, Volume

__all__ = ["Instance", "KeyPair", "NetworkInterface", "Volume"]
