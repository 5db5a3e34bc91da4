"""The embedded cloud: AWS's APIs, an HTTP API's data plane, functions and a node, in one process on this machine.

Nothing but `cli/app.py` may import this package, and what it imports is `process`, which is light: the cloud
itself (moto, flask, uvicorn) lives in another process, started with `python -m aistratus.local`.
"""
