"""`aistratus node build`: builds the worker's image on a temporary machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from aistratus.cli.node_reach import app
from aistratus.cli.options import Options
from aistratus.core.errors import UsageError

__all__ = ["app"]

DOCKERFILE: Final = Path(__file__).parents[2] / "scripts" / "worker.Dockerfile"


@app.command()
def build(
    context: typer.Context,
    dockerfile: Annotated[
        Path | None, typer.Option(help="Another Dockerfile (default: the repository's scripts/worker.Dockerfile)")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Just end a builder that is still there")] = False,
) -> None:
    """Builds the worker's image and pushes it to the env's repository, on a machine that is ended afterwards.

    It needs `delivery.repository`, with which `up` makes the repository of images and the builder's role. The machine
    costs about four cents an hour while it builds; it ends with the build, with Ctrl-C, and by itself after 50 minutes.
    """
    import sys
    import time

    from aistratus.cli import show
    from aistratus.cli.operator import ids_of
    from aistratus.cli.session import ending_gently, open_session
    from aistratus.node import build as builder
    from aistratus.package import worker_zip
    from aistratus.resources.ecr import Repository
    from aistratus.resources.logs import LogGroup
    from aistratus.resources.storage import bucket_name

    options: Options = context.obj
    session = open_session(options)
    console = show.people(options)
    if stop:
        ended = builder.stop(session.cloud)
        show.results(options).print(f"{', '.join(ended)} ends" if ended else "there is no builder", markup=False)
        if options.json:
            show.emit({"env": session.settings.env, "ended": ended})
        return
    if session.settings.delivery.repository is None:
        raise UsageError(
            "this env builds no images: the repository for them and the builder's role come with delivery.repository",
            todo="set it, run `aistratus up`, then this again",
        )
    content = _content(dockerfile or DOCKERFILE)
    images, log = session.stack.by_key["builder_images"], session.stack.by_key["build_runner_log"]
    assert isinstance(images, Repository) and isinstance(log, LogGroup)
    bundle, names = worker_zip(), session.names
    registry = f"{names.account}.dkr.ecr.{names.region}.amazonaws.com"
    work = builder.Work(
        ids=ids_of(session, builder.NEEDS),
        image=f"{registry}/{names.prefix}{images.name}:{bundle.sha256_hex[:40]}",
        bucket=bucket_name(names, "data"),
        log_group=log.name,
        dockerfile=content,
        bundle=bundle.content,
        tag=bundle.sha256_hex,
    )
    began, where = time.monotonic(), sys.stderr if options.json else sys.stdout

    def told(sentence: str) -> None:
        console.print(sentence, style="dim", markup=False)

    def heard(piece: str) -> None:
        if not options.quiet:
            where.write(piece)
            where.flush()

    with ending_gently(session):
        image = builder.build(session.cloud, work, told=told, heard=heard)
    seconds = time.monotonic() - began
    show.results(options).print(f"{image} is built and pushed, {seconds:.0f} s; the builder ends", markup=False)
    if options.json:
        show.emit({"env": session.settings.env, "image": image, "seconds": round(seconds, 3)})


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"the Dockerfile {path} can't be read: {error.strerror}",
            todo="run it in a checkout of the repository, or name one with --dockerfile",
        ) from error
