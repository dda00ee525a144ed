"""The command line, from the Typer application itself."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer

from scripts.docs.markdown import code, fence, table
from vouch.cli.main import root
from vouch.cli.session import EXIT_CODES

SHARED = ("--json", "--state", "--address", "--token", "--ca", "--help")
HEAD = """# Command line

`vouch COMMAND --help` shows the same text. Options that most commands share stand at the end.
"""


def page() -> str:
    """Every command with its arguments, options and examples."""
    every = list(commands())
    shared = {
        option.opts[0]: option for _, command in every for option in options(command) if is_shared(option)
    }
    parts = [HEAD, *(_section(path, command) for path, command in every)]
    parts.append("## Options that most commands share\n\n" + _options(list(shared.values())))
    codes = [part.strip().split(" ", 1) for part in EXIT_CODES.replace("\n", " ").split("·")]
    parts.append("## Exit codes\n\n" + table(("code", "meaning"), codes))
    return "\n".join(parts)


def commands() -> Iterator[tuple[str, Any]]:
    """(path, click command) of every command that does something, in the order of --help."""
    yield from _walk("vouch", typer.main.get_command(root))


def options(command: Any) -> list[Any]:
    """The options of a command, in order."""
    return [one for one in command.params if one.param_type_name == "option" and not one.hidden]


def is_shared(option: Any) -> bool:
    """Whether most commands have the option."""
    return option.opts[0] in SHARED


def _walk(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    below = getattr(command, "commands", None)
    if below is None:
        yield path, command
        return
    for name, one in below.items():
        yield from _walk(f"{path} {name}", one)


def _section(path: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    own = [one for one in options(command) if not is_shared(one)]
    words = [path, *map(_argument, arguments), "[OPTIONS]"]
    parts = [f"## {path}\n", fence(" ".join(words)), _text(command.help or "")]
    if arguments:
        rows = [(code(_argument(one)), one.help or "") for one in arguments]
        parts.append(table(("argument", "meaning"), rows))
    if own:
        parts.append(_options(own))
    return "\n".join(parts)


def _argument(argument: Any) -> str:
    name = (argument.metavar or argument.name).upper()
    return name if argument.required else f"[{name}]"


def _text(help_text: str) -> str:
    """Paragraphs as text; what `\\b` marks is laid out and becomes a code block."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(help_text))
    return "\n".join(_block(block) for block in blocks) + "\n"


def _block(block: str) -> str:
    if not block.lstrip().startswith("\b"):
        return f"{' '.join(block.split())}\n".replace("<", "&lt;")
    first, _, rest = block.lstrip("\b \n").partition("\n")
    return f"{first}\n\n{fence(inspect.cleandoc(rest))}"


def _options(rows: list[Any]) -> str:
    return table(
        ("option", "type", "default", "meaning"),
        ((_names(one), _type(one), _default(one), _meaning(one)) for one in rows),
    )


def _names(option: Any) -> str:
    return ", ".join(code(name) for name in (*option.opts, *option.secondary_opts))


def _type(option: Any) -> str:
    if option.is_flag:
        return "flag"
    kind = option.metavar or getattr(option.type_descriptor.annotation, "__name__", "text")
    limits = "".join(
        f", {sign} {bound}" for sign, bound in (("≥", option.min), ("≤", option.max)) if bound is not None
    )
    return kind.lower() + limits + (", repeatable" if option.multiple else "")


def _default(option: Any) -> str:
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    return (
        "" if option.default in (None, False, "") or callable(option.default) else code(str(option.default))
    )


def _meaning(option: Any) -> str:
    variable = f" Environment: `{option.envvar}`." if option.envvar else ""
    return (option.help or "") + variable
