"""The resource kinds, one file per AWS service: what is wanted, and how it is found, ensured, removed and listed."""
