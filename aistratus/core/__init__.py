"""The reconciliation engine: compares the desired state, a declared stack, with the actual state, and makes them equal.

`resource.py` defines kinds, `graph.py` their order, `diff.py` and `plan.py` the drift, `execute.py` the changes,
`ledger.py` and `lock.py` the record and the lock, `settle.py` the waits. It knows no AWS service and opens no client.
"""
