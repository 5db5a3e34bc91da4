"""The node from the operator's side: its first boot, its states, starting, stopping and resizing, and remote access.

`states.py` decides, `lifecycle.py` and `resize.py` act, `transport.py`, `ssm.py` and `ssh.py` reach the machine. What
runs on the node is in `aistratus/worker/`.
"""
