"""Every test process looks for garbage seldom: most of what it makes stays, AWS's models of its services above all."""

from __future__ import annotations

import gc

gc.set_threshold(100_000, 20, 20)
