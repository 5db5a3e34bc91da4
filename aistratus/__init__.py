"""A private LLM on one person's AWS account, or on an embedded cloud on their laptop."""

__version__ = "0.1.0"
