"""Adds what users really type: casing, missing punctuation, typing errors, filler words before and after."""

from __future__ import annotations

import random
import re
from typing import Final

_BEFORE: Final = (
    "hi, ",
    "hey, ",
    "hello, ",
    "hi ",
    "hey ",
    "ok, ",
    "ok so ",
    "so ",
    "and ",
    "um, ",
    "well, ",
    "sorry, ",
    "quick question: ",
    "one question: ",
    "question: ",
    "please, ",
    "excuse me, ",
    "hey bot ",
    "dear bot, ",
    "ok now ",
    "now ",
    "then ",
    "but ",
    "also ",
    "good morning, ",
    "hmm ",
    "actually ",
    "btw ",
    "by the way, ",
    "another question: ",
    "next: ",
    "sorry to bother you, ",
    "just wondering, ",
    "alright, ",
    "oh and ",
    "yo, ",
    "maybe a dumb question, but ",
    "can i ask: ",
    "ok cool. ",
    "great! ",
    "thanks. ",
    "i wonder, ",
    "well then ",
    "ok great, ",
    "tell me, ",
    "uhm ",
    "i am building a side project. ",
    "my boss asks: ",
    "i read the docs, but ",
    "for my project: ",
    "i have a problem: ",
    "i was wondering, ",
    "stupid question: ",
    "one more thing: ",
    "ah, ",
    "oh, ",
    "listen, ",
    "dear assistant, ",
    "as a beginner, ",
    "i am new here. ",
    "wait, ",
    "say, ",
    "no, ",
    "yes, ",
)
_BEHIND: Final = (
    " please",
    " pls",
    " plz",
    " thanks",
    " thx",
    " now",
    " again",
    " asap",
    " for me",
    ", please",
    " then",
    " quickly",
    " right now",
    " today",
    " bro",
    " mate",
    " exactly",
    " ok",
    " thank you",
    " in aistratus",
    " with aistratus",
    " somehow",
    " here",
    " really",
    " too",
    " i wonder",
    " btw",
    " right",
    " from the command line",
    " from my terminal",
    " i am desperate",
    " it is urgent",
    " before i go home",
    " dude",
    " if possible",
    " kindly",
    " sir",
    " actually",
    " lol",
)
_SHORTER: Final = (
    ("what is", "whats"),
    ("what is", "what's"),
    ("how do i", "how do you"),
    ("do not", "dont"),
    ("you", "u"),
    ("are", "r"),
    ("please", "pls"),
    ("please", "plz"),
    ("the ", ""),
    ("a ", ""),
    ("my ", "the "),
    ("my ", ""),
    ("i am", "im"),
    ("want to", "wanna"),
    ("going to", "gonna"),
    ("how to", "how 2"),
    ("because", "cuz"),
    ("with", "w/"),
    ("and", "&"),
    ("for", "4"),
    ("command", "cmd"),
    ("environment", "env"),
    ("message", "msg"),
    ("infrastructure", "infra"),
    ("what", "wat"),
    ("something", "smth"),
    ("the", "teh"),
    ("i ", "we "),
    ("how do i", "howto"),
    ("can i", "can we"),
    ("is ", "'s "),
    ("cannot", "cant"),
    ("password", "pw"),
    ("without", "w/o"),
    ("instance", "inst"),
    ("how do i", "hwo do i"),
)
_PROPER: Final = (
    "GPU",
    "GPUs",
    "CPU",
    "CPUs",
    "VPC",
    "VPCs",
    "SQS",
    "EC2",
    "S3",
    "IAM",
    "AWS",
    "API",
    "APIs",
    "JWT",
    "NAT",
    "SSH",
    "SSM",
    "ARN",
    "ARNs",
    "DLQ",
    "LLM",
    "LLMs",
    "JSON",
    "CI",
    "SNS",
    "ECR",
    "ID",
    "IDs",
    "URL",
    "FIFO",
    "GGUF",
    "DynamoDB",
    "Lambda",
    "Cognito",
    "TinyLlama",
    "Aistratus",
    "CloudWatch",
    "EventBridge",
    "CodeBuild",
    "GitHub",
    "Docker",
    "OpenAI",
    "Amazon",
    "TTL",
    "AZ",
    "MFA",
    "SSO",
    "HTTP",
    "DNS",
    "OIDC",
    "KMS",
    "AI",
    "PDF",
    "USA",
    "Terraform",
    "Kubernetes",
    "Linux",
    "Llama",
    "Mistral",
    "ChatGPT",
    "I",
)
_SPELLING: Final = {name.lower(): name for name in _PROPER}
_NAMES: Final = re.compile(r"\b(" + "|".join(_SPELLING) + r")\b", re.IGNORECASE)
_FILLERS: Final = (
    "just",
    "really",
    "actually",
    "maybe",
    "now",
    "somehow",
    "quickly",
    "kind of",
    "like",
    "even",
    "please",
    "also",
    "still",
)
_NEAR: Final = {
    key: row[max(0, at - 1) : at] + row[at + 1 : at + 2]
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for at, key in enumerate(row)
}
_ASKING: Final = re.compile(
    r"(what|how|who|where|when|why|which|is|are|can|could|do|does|will|would|should|may|am|did|was|were|has|have|"
    r"whats|hows)\b",
    re.IGNORECASE,
)


def as_typed(question: str, rng: random.Random) -> str:
    """The question as somebody in a hurry, or on a phone, or very polite, might type it."""
    if rng.random() < 0.12:
        question = rng.choice(_BEFORE) + question
    if rng.random() < 0.12:
        question += rng.choice(_BEHIND)
    for _ in range(rng.choice((0, 0, 0, 1, 1, 2))):
        long, short = rng.choice(_SHORTER)
        question = re.sub(rf"\b{long}" if long.endswith(" ") else rf"\b{long}\b", short, question, count=1)
    if rng.random() < 0.12:
        question = _reworded(question, rng)
    draw = rng.random()
    for _ in range(2 if draw < 0.05 else 1 if draw < 0.2 else 0):
        question = _mistyped(question, rng)
    return _spelled(_cased(question.strip(), rng), rng) + _ending(question, rng)


def _reworded(text: str, rng: random.Random) -> str:
    """A filler more, a word less, or two words the wrong way round."""
    words = text.split(" ")
    if len(words) < 4:
        return text
    at, kind = rng.randrange(1, len(words) - 1), rng.random()
    if kind < 0.6:
        words.insert(at, rng.choice(_FILLERS))
    elif kind < 0.8:
        words[at], words[at + 1] = words[at + 1], words[at]
    elif len(words) > 5:
        del words[at]
    return " ".join(words)


def _mistyped(text: str, rng: random.Random) -> str:
    """One typing error inside a word of four letters or more."""
    words = [found.span() for found in re.finditer(r"[a-zA-Z]{4,}", text)]
    if not words:
        return text
    start, end = rng.choice(words)
    at = rng.randrange(start + 1, end - 1) if end - start > 2 else start
    kind = rng.random()
    if kind < 0.35:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    if kind < 0.6:
        return text[:at] + text[at + 1 :]
    if kind < 0.8:
        return text[:at] + text[at] + text[at:]
    return text[:at] + rng.choice(_NEAR.get(text[at].lower(), "e") or "e") + text[at + 1 :]


def _cased(text: str, rng: random.Random) -> str:
    draw = rng.random()
    if draw < 0.45:
        return text.lower()
    if draw < 0.9:
        return text[:1].upper() + text[1:]
    if draw < 0.95:
        return text
    return text.upper() if draw < 0.985 else text.title()


def _spelled(text: str, rng: random.Random) -> str:
    """Half of the people write abbreviations and product names as their makers do."""
    return _NAMES.sub(lambda found: _SPELLING[found[0].lower()], text) if rng.random() < 0.5 else text


def _ending(text: str, rng: random.Random) -> str:
    draw = rng.random()
    if _ASKING.match(text):
        return "?" if draw < 0.5 else "" if draw < 0.93 else rng.choice(("??", "???", " ?", ".", "?!", "..."))
    if draw < 0.86:
        return "" if draw < 0.55 else "." if draw < 0.72 else "?"
    return rng.choice(("!", "...", "!!", "??", " ?"))
