"""Tools that the client runs: what a chat model sees of them, and what its calls mean (spec §1.2).

Rules
1. A model sees a function. `describe` makes it from the tool of a request: short sentences, few
   parameters and an example, because small models must understand it. The engine may rename it.
2. `parse` makes of the arguments that the model wrote the fields of the item of its call (spec
   App. B), in the order of OpenAI's wire.
3. `parse` is lenient (`arguments.py`), but nothing is guessed that runs on somebody's machine: what
   could mean two commands is a `BadCall`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from antiphon.protocol.arguments import (
    BadCall,
    count_of,
    read_object,
    text_of,
    texts_of,
    words_of,
)

__all__ = ["CLIENT_TOOLS", "BadCall", "ClientTool"]

Json: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ClientTool:
    """One kind of tool that the client runs."""

    #: Of the items of its calls.
    item_type: str
    #: A tool of a request → the function that stands for it: ``{"type": "function", "name",
    #: "description", "parameters", "strict"}``.
    describe: Callable[[Json], Json]
    #: The arguments of a call, JSON that a model wrote → the item's own fields. Raises `BadCall`.
    parse: Callable[[str], Json]


# -- what a model sees ---------------------------------------------------------------------------


def _function(name: str, description: str, properties: Json, required: list[str]) -> Json:
    return {
        "type": "function",
        "name": name,
        "description": description,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        },
        "strict": False,
    }


def _describe_local_shell(_tool: Json) -> Json:
    return _function(
        "local_shell",
        "Run one program on the user's machine and get what it prints. No shell reads the command: "
        "for pipes, variables, wildcards or several commands, run a shell yourself, as in "
        '["bash", "-lc", "ls *.txt | wc -l"].',
        {
            "command": {
                "type": "array",
                "items": {"type": "string"},
                "description": 'The program and each of its arguments: ["ls", "-la", "src"].',
            },
            "working_directory": {"type": "string", "description": "Where to run it."},
            "env": {
                "type": "object",
                "additionalProperties": {"type": "string"},
                "description": "Environment variables to set.",
            },
            "timeout_ms": {"type": "integer", "description": _TIMEOUT},
        },
        ["command"],
    )


def _describe_shell(tool: Json) -> Json:
    skills = (tool.get("environment") or {}).get("skills") or ()
    listed = "".join(
        f"\n- {skill['name']}: {skill['description']} (in {skill['path']})" for skill in skills
    )
    about_skills = (
        "\nThere are skills on that machine: directories with instructions and scripts. If one "
        f"fits the task, read the file SKILL.md in its directory first and follow it:{listed}"
    )
    return _function(
        "shell",
        "Run commands in a shell on the user's machine and get what each of them prints, and its "
        "exit code. They run one after the other, in the order of the list."
        + (about_skills if skills else ""),
        {
            "commands": {
                "type": "array",
                "items": {"type": "string"},
                "description": 'Command lines of the shell: ["cd src && ls", "cat main.py"].',
            },
            "timeout_ms": {"type": "integer", "description": _TIMEOUT},
            "max_output_length": {
                "type": "integer",
                "description": "At most so many characters of the output of each command.",
            },
        },
        ["commands"],
    )


_TIMEOUT: Final = "Stop it after so many milliseconds."

_PATCH: Final = """\
Create, update or delete one file on the user's machine. To change several files, call it several \
times.
create_file: every line of `diff` begins with "+"; the rest of the line is the line of the file:
+first line
+second line
update_file: `diff` shows the lines to change. A line begins with "-" when it is taken out, with \
"+" when it is put in, and with a space when it stays; show up to three lines that stay around \
each change, exactly as they are in the file. Begin each place with a line "@@", or with "@@ " and \
the line of the class or function that it is in; there are no line numbers:
@@ def greet(name):
     text = "Hello"
-    print(text)
+    print(text, name)
     return text
delete_file: needs no `diff`."""


def _describe_apply_patch(_tool: Json) -> Json:
    return _function(
        "apply_patch",
        _PATCH,
        {
            "type": {"type": "string", "enum": list(_OPERATIONS)},
            "path": {"type": "string", "description": "The file, as in src/main.py."},
            "diff": {"type": "string", "description": "What to write, in the format above."},
        },
        ["type", "path"],
    )


_QUERY: Final[Json] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What the tools that you need should do."}
    },
    "required": ["query"],
    "additionalProperties": False,
}


def _describe_tool_search(tool: Json) -> Json:
    return {
        "type": "function",
        "name": "tool_search",
        "description": tool.get("description")
        or "Look for tools that are not listed here. The tools that are found can be called next.",
        "parameters": tool.get("parameters") or _QUERY,
        "strict": False,
    }


# -- what a call means ---------------------------------------------------------------------------

_OPERATIONS: Final = ("create_file", "update_file", "delete_file")
#: What models call the three.
_OPERATION_NAMES: Final[Mapping[str, str]] = {
    **{name: name for name in _OPERATIONS},
    **{name.removesuffix("_file"): name for name in _OPERATIONS},
    "add": "create_file",
    "add_file": "create_file",
}
_COMMANDS_WANTED: Final = 'Expected {"commands": ["ls -la"]}: a list of command lines.'
_COMMAND_WANTED: Final = 'Expected {"command": ["ls", "-la"]}: a program and its arguments.'
_PATCH_WANTED: Final = (
    'Expected {"type": "create_file" or "update_file", "path": "a.txt", "diff": "+text"}, or '
    '{"type": "delete_file", "path": "a.txt"}.'
)
_SEARCH_WANTED: Final = "Expected an object with the parameters of this function."
_LONGEST_PATH: Final = 4_096


def _parse_local_shell(arguments: str) -> Json:
    given = _inside(read_object(arguments, _COMMAND_WANTED, key="command"), "action")
    command = _first(given, ("command", "cmd"))
    if isinstance(command, str) and command.strip():
        command = ["bash", "-lc", command]
    words = words_of(command)
    if words is None:
        raise BadCall(f"'command' must be a list of strings, and not empty. {_COMMAND_WANTED}")
    action: Json = {"type": "exec", "command": words, "env": texts_of(given.get("env"), "env")}
    optional = {
        "timeout_ms": count_of(given.get("timeout_ms"), "timeout_ms"),
        "user": text_of(given.get("user"), "user", _COMMAND_WANTED),
        "working_directory": text_of(
            given.get("working_directory"), "working_directory", _COMMAND_WANTED
        ),
    }
    return {"action": action | {key: value for key, value in optional.items() if value}}


def _parse_shell(arguments: str) -> Json:
    given = _inside(read_object(arguments, _COMMANDS_WANTED, key="command"), "action")
    commands = words_of(given.get("commands"))
    if commands is None:
        # One command line, whatever it is called; several words could be one command or several.
        one = _first(given, ("commands", "command", "cmd"))
        one = one[0] if isinstance(one, list) and len(one) == 1 else one
        commands = [one] if isinstance(one, str) and one.strip() else None
    if commands is None:
        raise BadCall(f"'commands' must be a list of strings, and not empty. {_COMMANDS_WANTED}")
    return {
        "action": {
            "commands": commands,
            "max_output_length": count_of(given.get("max_output_length"), "max_output_length"),
            "timeout_ms": count_of(given.get("timeout_ms"), "timeout_ms"),
        }
    }


def _parse_apply_patch(arguments: str) -> Json:
    given = _inside(read_object(arguments, _PATCH_WANTED), "operation")
    asked = _first(given, ("type", "operation"))
    operation = _OPERATION_NAMES.get(asked) if isinstance(asked, str) else None
    if operation is None:
        raise BadCall(f"'type' must be one of {', '.join(_OPERATIONS)}. {_PATCH_WANTED}")
    path = _first(given, ("path", "file_path", "file"))
    if not isinstance(path, str) or not 0 < len(path) <= _LONGEST_PATH:
        raise BadCall(f"'path' must be the path of a file. {_PATCH_WANTED}")
    if operation == "delete_file":
        return {"operation": {"type": operation, "path": path}}
    diff = _first(given, ("diff", "patch"))
    if not isinstance(diff, str):
        raise BadCall(f"'diff' must be a string for {operation}. {_PATCH_WANTED}")
    return {"operation": {"type": operation, "diff": diff, "path": path}}


def _parse_tool_search(arguments: str) -> Json:
    return {"arguments": read_object(arguments, _SEARCH_WANTED), "execution": "client"}


def _inside(given: Json, key: str) -> Json:
    """The object at `key`, for models that write the item itself; else what was given."""
    inner = given.get(key)
    return inner if isinstance(inner, dict) else given


def _first(given: Json, keys: tuple[str, ...]) -> Any:
    """The value of the first key that is there."""
    return next((given[key] for key in keys if given.get(key) is not None), None)


#: `type` of a request's tool → what the client does with it.
CLIENT_TOOLS: Final[Mapping[str, ClientTool]] = {
    "local_shell": ClientTool("local_shell_call", _describe_local_shell, _parse_local_shell),
    "shell": ClientTool("shell_call", _describe_shell, _parse_shell),
    "apply_patch": ClientTool("apply_patch_call", _describe_apply_patch, _parse_apply_patch),
    "tool_search": ClientTool("tool_search_call", _describe_tool_search, _parse_tool_search),
}
