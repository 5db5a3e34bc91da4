"""The Lambda function behind the API. It ships in `router.zip` and imports itself, `wire` and python-jose only."""
