"""The resource kinds and their reconcilers: desired state, and how it is found, ensured, removed and listed.

Each kind is one file. `network`, `storage`, `cognito`, `compute`, `functions` and `httpapi` re-export the kinds of a
service that has several.
"""
