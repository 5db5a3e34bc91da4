"""Trains the demo model from scratch and writes it as a GGUF file.

    python3 -m venv venv
    venv/bin/pip install torch==2.13.0 sentencepiece==0.2.3 numpy==2.4.6 gguf==0.19.0
    venv/bin/python scripts/train_demo_model.py --seconds 1500 --out aistratus/models/demo.gguf

The corpus is generated from the patterns in `scripts/demo_model/` and is the same on every machine; nothing is
downloaded. The network's numbers are not the same from run to run, because training ends by the clock. So after a
run, measure the file with `tests/unit/test_demo_model.py`, and enter its SHA-256 and its figure in
`aistratus/models/demo.md` and the SHA-256 in `aistratus/models/__init__.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import math
import random
import sys
from pathlib import Path
from typing import Final

from demo_model.corpus import Corpus
from demo_model.intent import known_intents, refusal

SEED: Final = 20
CONVERSATIONS: Final = 200_000
VOCABULARY: Final = 1536
STEPS: Final = 4000
NAME: Final = "aistratus-demo"
DESCRIPTION: Final = "Demo model of Aistratus: it knows this program and its cloud words, and nothing else."


def main() -> None:
    arguments = _arguments()
    import numpy as np
    import torch
    from demo_model import gguf_file, network
    from demo_model.tokenizer import Tokenizer

    torch.set_num_threads(arguments.threads)
    conversations = list(Corpus().conversations(arguments.conversations, SEED))
    tokenizer = Tokenizer.train(itertools.islice(conversations, 30_000), VOCABULARY)
    shape = network.Shape(vocabulary=len(tokenizer.pieces))
    numbers = {intent.reply: number for number, intent in enumerate((*known_intents(), refusal()))}
    rng = random.Random(SEED)
    examples = []
    for each in conversations:
        tokens, replied, reply = tokenizer.conversation(each, numbers, rng, shape.context)
        if any(replied):
            arrays = np.array(tokens, np.uint16), np.array(replied, np.bool_), np.array(reply, np.int16)
            examples.append(network.Example(*arrays))
    questions, size = sum(len(each.turns) for each in conversations), sum(len(each.tokens) for each in examples)
    print(f"{questions:,} questions, {size:,} tokens", file=sys.stderr)
    torch.manual_seed(SEED)
    demo = network.Network(shape, tokenizer.spellings, len(numbers))
    network.train(
        examples,
        demo,
        steps=arguments.steps,
        seconds=arguments.seconds,
        device=arguments.device,
        batch_tokens=arguments.batch_tokens,
    )
    gguf_file.write(arguments.out, demo, tokenizer.pieces, name=NAME, description=DESCRIPTION)
    data = arguments.out.read_bytes()
    print(f"{arguments.out}: {len(data):,} bytes, SHA-256 {hashlib.sha256(data).hexdigest()}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the demo model and write it as GGUF.")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"steps of training (default {STEPS})")
    parser.add_argument("--seconds", type=float, default=math.inf, help="end earlier, after this wall time")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (default cpu)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--batch-tokens", type=int, default=3072, help="tokens a step (default 3072; on a GPU 32768)")
    parser.add_argument("--conversations", type=int, default=CONVERSATIONS, help=f"default {CONVERSATIONS}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
