"""The program on the node: takes jobs from the queue and writes the model's replies into their items.

Two processes share the work, because a model library may end its process at any moment. The *supervisor*
(`supervisor.py`) owns everything that must survive: the queue, the job item, the heartbeat. The *model process*
(`model_process.py`) owns the engine and knows nothing of AWS; when it dies, one attempt has failed, and a fresh
one is started. They exchange JSON lines over a pipe (`child.py`).

The worker promises that a reply arrives once and complete, whichever of the two is killed and whenever, and that
a job that has ended is never run again. It ships to the node by itself: it imports only itself, `aistratus.wire`,
boto3, ctransformers, gguf and the standard library.
"""
