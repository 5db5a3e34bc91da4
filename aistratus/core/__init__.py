"""The engine that turns a declared stack into what is really there. Knows no AWS service and opens no client."""
