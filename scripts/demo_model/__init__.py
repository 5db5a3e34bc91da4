"""What the demo model is made from: its intents, the corpus that they generate, the network and the GGUF writer.

`scripts/train_demo_model.py` puts the parts together. `corpus` and everything it imports needs the standard
library only, so that tests can rebuild the training corpus; `tokenizer`, `network` and `gguf_file` need the
training packages and are imported when training starts.
"""
