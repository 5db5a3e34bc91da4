"""A client library for an env's API: signing in, requests, jobs, conversations, and the stream of a reply.

The command line is built on it, and so can be any other program. Nothing here prints or prompts.
"""
