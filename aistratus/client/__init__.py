"""What a program needs to talk to the API of an env: the request, tokens, jobs, the stream of a reply."""
