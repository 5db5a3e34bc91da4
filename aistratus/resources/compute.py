"""The node: its key pair, the instance, and what an instance may leave behind. Three rooms with one door."""

from __future__ import annotations

from aistratus.resources.instances import Instance
from aistratus.resources.key_pairs import KeyPair
from aistratus.resources.leftovers import NetworkInterface, Volume

__all__ = ["Instance", "KeyPair", "NetworkInterface", "Volume"]
