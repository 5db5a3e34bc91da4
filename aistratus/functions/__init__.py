"""The small functions of the stack besides the router: guards, reports, checks. They ship together in one zip.

Each file is one function with an entry point `handle(event, context)`. They import only themselves, `wire`, the
standard library and boto3, which Lambda's runtime brings along; what they need to know comes in environment variables.
"""
