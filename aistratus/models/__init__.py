"""The demo model: a small real llama-architecture model that ships inside the package.

With it the whole way of a prompt runs on a laptop with no download and no account: router, queue, worker and
engine do exactly what they do with a large model. It knows how to use Aistratus and the cloud words of this
project and nothing else, so whoever shows one of its replies says so: `DEMO.demo` is the sign for that, and
`DEMO.name` the label. `demo.md` beside the file is its card; `scripts/train_demo_model.py` makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

__all__ = ["DEMO", "ModelCard", "demo_model"]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What a worker and a client must know of a model file.

    Attributes:
        name: how replies of this model are labelled.
        file: file name of the GGUF, without a folder.
        sha256: 64 lower-case hex digits over the file's bytes, checked before a worker loads it.
        context_tokens: prompt and reply together, in tokens of the model's own vocabulary.
        demo: true for a model that shows how things work and doesn't know the world.
    """

    name: str
    file: str
    sha256: str
    context_tokens: int
    demo: bool


DEMO: Final = ModelCard(
    name="aistratus-demo",
    file="demo.gguf",
    sha256="5323d224ed49375a50c6cb8bdfba786b746892f94b93688be4ab29624a92acc7",
    context_tokens=1024,
    demo=True,
)
"""The model of the `local` env unless `model.path` names another file."""


def demo_model() -> Path:
    """Where the demo model's file lies on this machine.

    Raises:
        FileNotFoundError: the package was installed without its model file.
    """
    path = Path(str(files(__package__).joinpath(DEMO.file)))
    if not path.is_file():
        raise FileNotFoundError(f"{DEMO.file} is missing from the installed package; install aistratus again")
    return path
