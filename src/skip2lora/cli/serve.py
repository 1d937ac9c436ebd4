"""``skip2lora serve``: a model in the field, over HTTP."""

from __future__ import annotations

import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from skip2lora.backbones.loading import load
from skip2lora.cli import common
from skip2lora.cli import options as shared
from skip2lora.cli.help import Command
from skip2lora.cli.service import lab_set, limit_options, limits_of, sound_of, sound_options
from skip2lora.errors import ParameterError, SuspectLabelsWarning
from skip2lora.serve import allocator, security
from skip2lora.serve.http import application, need_starlette
from skip2lora.serve.mqtt import Bridge, Broker
from skip2lora.serve.server import Stop, listening, run
from skip2lora.serve.service import Service
from skip2lora.serve.unit import unit
from skip2lora.serve.watched import Watched


@click.command(
    cls=Command, short_help="Predict, notice change, ask for labels, learn: a service.",
    example="skip2lora serve fan.safetensors --store fan-service",
)  # fmt: skip
@shared.model_argument
@click.option(
    "--store", required=True, metavar="DIR", type=click.Path(path_type=Path, file_okay=False),
    help="Folder of all that it keeps: samples, labels, versions.",
)  # fmt: skip
@shared.adapter
@click.option("--name", help="What it is called.  [default: the name of MODEL's file]")
@click.option("--host", default="127.0.0.1", show_default=True,
              help="Address to listen at; any but this machine's own needs a token.")  # fmt: skip
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
              help="Port to listen at; 0 takes any that is free.")  # fmt: skip
@lab_set
@click.option("--mqtt", metavar="URL", help="Broker to join, such as mqtt://localhost.")
@click.option("--watch", type=click.Path(path_type=Path), metavar="FOLDER",
              help="Predict the files that come to this folder.")  # fmt: skip
@sound_options
@limit_options
@click.option("--approve", is_flag=True, help="A better version waits until someone adopts it.")
@click.option("--new-token", is_flag=True,
              help="Ask every request for a token, a new one; it is printed once.")  # fmt: skip
@click.option(
    "--print-unit",
    is_flag=True,
    help="Print a unit for systemd instead; its store is below /var/lib.",
)
@shared.threads
@shared.as_json
def command(model: Path, store: Path, as_json: bool, **options: Any) -> None:
    """Predict with MODEL over HTTP, and learn from labels that come.

    It notices when the data changes, asks for the labels that help most, learns in milliseconds,
    and adopts only what held-out answers prove better. Its page shows all of it, and takes labels.
    Ctrl-C or SIGTERM stops it; nothing is lost.
    """
    name = options["name"] or model.stem
    if options["print_unit"]:
        click.echo(unit(name, model, _unit_words(click.get_current_context())), nl=False)
        return
    need_starlette()
    allocator.settle()
    warnings.simplefilter("ignore", SuspectLabelsWarning)  # the page lists them
    broker = None if options["mqtt"] is None else Broker.of(options["mqtt"])
    host = options["host"]
    limits = limits_of(options)
    loaded = load(model, threads=options["threads"])
    with ExitStack() as stack:
        at = stack.enter_context(listening(host, options["port"]))
        service = stack.enter_context(
            Service(
                loaded, store, adapter=options["adapter"], name=name,
                lab_set=options["lab_set"], approve=options["approve"], limits=limits, apart=True,
                sound=sound_of(options),
            )
        )  # fmt: skip
        if broker is not None:
            stack.enter_context(Bridge(service, broker))
        if options["watch"] is not None:
            stack.enter_context(Watched(service, options["watch"]))
        token = _token(store, host, new=options["new_token"])
        port = at.getsockname()[1]
        policy = security.policy_for(host, port, security.kept_token(store))
        url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        facts = {"url": url, "name": name, "store": str(store), "token": token}
        lines = _lines(service, url, token)
        stop = Stop()
        app = application(service, policy, stop)
        run(app, at, stop, lambda: common.show(facts, lines, as_json=as_json))
    common.say_notes([f"{name} stopped; {store} has all that it learned"])


def _unit_words(context: click.Context) -> list[str]:
    """The options that were typed, for a service with a user and a folder of its own."""
    words = []
    for option in context.command.params:
        key = str(option.name)
        typed = context.get_parameter_source(key) is ParameterSource.COMMANDLINE
        if not typed or not isinstance(option, click.Option) or key in ("print_unit", "as_json"):
            continue
        value = context.params[key]
        if key == "watch":
            raise ParameterError(
                f"--watch is {value}, where a service with a user of its own moves no files, "
                "expected none: leave it out, and add it to the unit with a User= that may"
            )
        if key == "store":
            value = value.name  # in the folder that systemd keeps for it
        elif isinstance(value, Path):
            value = value.resolve()
        words += [option.opts[0]] if option.is_flag else [option.opts[0], str(value)]
    return words


def _token(store: Path, host: str, *, new: bool) -> str | None:
    """A token made now, which is told once; None where none is needed or it is known."""
    known = security.kept_token(store)
    if new or (known is None and not security.is_loopback(host)):
        return security.new_token(store)
    return None


def _lines(service: Service, url: str, token: str | None) -> list[str]:
    version = service.version
    lines = [f"{service.name}: {url}, version {version or '0, the base'} in use; Ctrl-C stops it"]
    if token is not None:
        lines.append(f"token, shown this once: {token}")
    return lines
