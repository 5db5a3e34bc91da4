"""A small llama-architecture network and its training.

Just what `llama.cpp` computes for the architecture `llama`: RMS norms, rotary positions on interleaved pairs,
grouped-query attention, a SwiGLU feed-forward net, untied input and output embeddings, no biases.
"""

from __future__ import annotations

import math
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

INSIDE_RATE: Final = 8e-3
OTHER_RATE: Final = 3e-3
"""Highest learning rates: of the matrices inside the layers, and of all the rest."""
WARM_UP_STEPS: Final = 60
ASKED_SHARE, ASKED_WEIGHT = 0.2, 0.3
"""How many of the tokens that aren't part of a reply count, and how much: enough to learn the words of questions."""


QUESTIONS_SHARE: Final = 0.6
REPLY_WEIGHT: Final = 0.1
"""How much of the training goes to questions alone; then, how much the choice of a reply counts beside its tokens."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Sizes of the network. Every width is a multiple of 32, for Q8_0's sake."""

    vocabulary: int
    context: int = 1024
    width: int = 160
    layers: int = 4
    heads: int = 5
    groups: int = 1
    head_width: int = 32
    feed_forward: int = 416
    epsilon: float = 1e-5
    rope_base: float = 10_000.0


@dataclass(frozen=True)
class Example:
    """One conversation, three arrays of its length.

    `replied` says which tokens belong to a reply. `reply` holds, at the last token before a reply, the number of that
    reply, and -1 everywhere else.
    """

    tokens: npt.NDArray[np.uint16]
    replied: npt.NDArray[np.bool_]
    reply: npt.NDArray[np.int16]

    def question(self) -> Example:
        """Just the first question, up to where its reply would begin."""
        end = int(np.argmax(self.reply >= 0)) + 1
        return Example(self.tokens[:end], self.replied[:end], self.reply[:end])


class Norm(nn.Module):
    """Root-mean-square norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self._epsilon = shape.epsilon

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, self._epsilon)


class Layer(nn.Module):
    """Attention and feed-forward net, each added to its input. Members are named as GGUF names their tensors."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self._shape = shape
        inner, shared = shape.heads * shape.head_width, shape.groups * shape.head_width
        self.attn_norm = Norm(shape)
        self.attn_q = nn.Linear(shape.width, inner, bias=False)
        self.attn_k = nn.Linear(shape.width, shared, bias=False)
        self.attn_v = nn.Linear(shape.width, shared, bias=False)
        self.attn_output = nn.Linear(inner, shape.width, bias=False)
        self.ffn_norm = Norm(shape)
        self.ffn_gate = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self._attend(self.attn_norm(x), cosine, sine)
        h = self.ffn_norm(x)
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))

    def _attend(self, h: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        shape, (batch, length, _) = self._shape, h.shape
        q = _rotated(self.attn_q(h).view(batch, length, shape.heads, -1), cosine, sine).transpose(1, 2)
        k = _rotated(self.attn_k(h).view(batch, length, shape.groups, -1), cosine, sine).transpose(1, 2)
        v = self.attn_v(h).view(batch, length, shape.groups, -1).transpose(1, 2)
        # Written out: on a CPU torch's fused attention spends half of all training time in its backward pass.
        # The heads of a group share its keys, so they stand below each other in one matrix.
        q = q.reshape(batch, shape.groups, -1, shape.head_width) * shape.head_width**-0.5
        scores = (q @ k.transpose(2, 3)).view(batch, shape.heads, length, length)
        future = torch.ones(length, length, dtype=torch.bool, device=h.device).triu(1)
        shares = functional.softmax(scores.masked_fill(future, -torch.inf), -1).to(v.dtype)
        y = shares.view(batch, shape.groups, -1, length) @ v
        return self.attn_output(y.view(batch, shape.heads, length, -1).transpose(1, 2).reshape(batch, length, -1))


class Network(nn.Module):
    """Tokens in, scores of the next token out.

    Two things are there for training alone and are not part of the file. Tokens that spell the same word differently
    (`GPU`, ` gpu`, `Gpu`) share a vector, to which each adds its own, so that what is learned of one serves all; the
    file gets the sums. And a second output says right after the question which reply it calls for, so that the network
    need not find out from the reply's later words that it should have listened.
    """

    def __init__(self, shape: Shape, spellings: Sequence[int], replies: int) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocabulary, shape.width)
        self.blk = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = Norm(shape)
        self.output = nn.Linear(shape.width, shape.vocabulary, bias=False)
        self.training_word = nn.Embedding(max(spellings) + 1, shape.width)
        self.training_reply = nn.Linear(shape.width, replies, bias=False)
        self.register_buffer("training_spellings", torch.tensor(spellings))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, 0, 0.04)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens (batch, length) to normed states (batch, length, width), which `output` turns into scores."""
        shape = self.shape
        steps = torch.arange(0, shape.head_width, 2, device=tokens.device) / shape.head_width
        angles = torch.outer(torch.arange(tokens.shape[1], device=tokens.device).float(), shape.rope_base**-steps)
        cosine, sine = angles.cos()[:, None, :], angles.sin()[:, None, :]
        x = self.token_embd(tokens) + self.training_word(self.training_spellings[tokens])
        for layer in self.blk:
            x = layer(x, cosine, sine)
        states: Tensor = self.output_norm(x)
        return states

    def tensors(self) -> dict[str, Tensor]:
        """What belongs into the file, under the names that GGUF gives it."""
        kept = {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("training_")}
        kept["token_embd.weight"] = self.token_embd.weight + self.training_word.weight[self.training_spellings]
        return kept


def _rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Rotary positions on neighbouring pairs: the order in which llama.cpp keeps the architecture `llama`."""
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], -1).flatten(-2)


def train(
    examples: Sequence[Example],
    network: Network,
    *,
    steps: int,
    seconds: float,
    device: str,
    batch_tokens: int,
    seed: int = 1,
) -> None:
    """Trains for `steps` steps of about `batch_tokens` tokens, or for `seconds` of wall time if that is less.

    The first `QUESTIONS_SHARE` of it is spent on questions alone: which reply one calls for can be learned without the
    reply's words, at half the work. The learning rate follows steps or seconds, whichever is further on. Progress goes
    to stderr.
    """
    torch.manual_seed(seed)
    network.to(device)
    optimizers = _optimizers(network)
    print(f"{sum(tensor.numel() for tensor in network.tensors().values()):,} parameters", file=sys.stderr)

    begun, smooth, seen = time.monotonic(), (math.nan, math.nan), 0
    rng = random.Random(seed)
    questions = _batches([example.question() for example in examples], batch_tokens, rng)
    conversations = _batches(examples, batch_tokens, rng)
    for step in range(steps):
        done = max(step / steps, (time.monotonic() - begun) / seconds)
        if done >= 1:
            break
        batch = next(questions if done < QUESTIONS_SHARE else conversations)
        share = min(1, (step + 1) / WARM_UP_STEPS) * (0.5 + 0.5 * math.cos(math.pi * done) + 0.01)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss, reply_loss, choice_loss = _losses(network, batch, device)
        network.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * share
            optimizer.step()
        seen += sum(len(example.tokens) for example in batch)
        news = (reply_loss, choice_loss)
        smooth = tuple(map(_smoothed, smooth, news))
        if step % 100 == 0:
            speed = seen / (time.monotonic() - begun)
            said = f"step {step}  {done:.0%}  reply loss {smooth[0]:.4f}, choice {smooth[1]:.3f}  {speed:,.0f} tokens/s"
            print(said, file=sys.stderr, flush=True)


def _smoothed(old: float, new: float) -> float:
    """A running mean; a value that is not there yet (NaN) begins it or is left out."""
    if math.isnan(old) or math.isnan(new):
        return new if math.isnan(old) else old
    return 0.98 * old + 0.02 * new


def _optimizers(network: Network) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices inside the layers, which it trains in about half the steps; AdamW for the rest."""
    inside = [p for p in network.blk.parameters() if p.dim() > 1]
    others = [p for name, p in network.named_parameters() if p.dim() == 1 or not name.startswith("blk.")]
    optimizers = (
        torch.optim.Muon(inside, lr=INSIDE_RATE, weight_decay=0.05, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, lr=OTHER_RATE, betas=(0.9, 0.97), weight_decay=0.01),
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _losses(network: Network, batch: Sequence[Example], device: str) -> tuple[Tensor, float, float]:
    """The weighted loss to descend, the mean loss over the replies' tokens, and that of the choice of reply."""
    length = max(len(example.tokens) for example in batch) + 1
    tokens = torch.zeros(len(batch), length, dtype=torch.long)
    weights = torch.zeros(len(batch), length)
    replies = torch.full((len(batch), length), -1)
    for row, example in enumerate(batch):
        size = len(example.tokens)
        tokens[row, :size] = torch.from_numpy(example.tokens.astype(np.int64))
        asked = (torch.rand(size) < ASKED_SHARE) * ASKED_WEIGHT
        replies[row, :size] = torch.from_numpy(example.reply.astype(np.int64))
        weights[row, :size] = torch.where(torch.from_numpy(example.replied), 1.0, asked)
    decisive = replies[:, :-1] >= 0
    states = network(tokens[:, :-1].to(device))
    guesses = network.training_reply(states[decisive.to(device)]).float()
    guessed = functional.cross_entropy(guesses, replies[:, :-1][decisive].to(device))
    if not any(example.replied.any() for example in batch):
        return guessed, math.nan, float(guessed.detach())

    chosen = weights[:, 1:] > 0
    weights, wanted = weights[:, 1:][chosen].to(device), tokens[:, 1:][chosen].to(device)
    each = functional.cross_entropy(network.output(states[chosen.to(device)]).float(), wanted, reduction="none")
    loss = (each * weights).sum() / weights.sum() + REPLY_WEIGHT * guessed
    return loss, float(each[weights == 1.0].mean().detach()), float(guessed.detach())


def _batches(examples: Sequence[Example], batch_tokens: int, rng: random.Random) -> Iterator[list[Example]]:
    """Endless batches of about `batch_tokens` tokens, each of conversations of similar length, in random order."""
    while True:
        order = sorted(range(len(examples)), key=lambda at: len(examples[at].tokens) * rng.uniform(0.9, 1.1))
        batches: list[list[Example]] = [[]]
        for at in order:
            if (len(batches[-1]) + 1) * len(examples[at].tokens) > batch_tokens and batches[-1]:
                batches.append([])
            batches[-1].append(examples[at])
        rng.shuffle(batches)
        yield from batches
