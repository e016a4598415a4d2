"""``antiphon prompts export | import``: prompts in files, and back (docs/prompts.md)."""

import secrets
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from antiphon.cli.prompt_files import PromptFileError, read_folder
from antiphon.cli.prompts import export_to, import_from
from antiphon.store.base import (
    MOST_PROMPTS,
    MOST_VERSIONS,
    PromptChange,
    PromptRow,
    PromptVersion,
)
from antiphon.store.memory import MemoryStore
from antiphon.store.memory_prompts import MemoryPrompts
from tests.api.command import Case, antiphon, outcomes
from tests.protocol.template_talk import stored_template

Json: TypeAlias = dict[str, Any]
PROJECT: Final = "alpha"


@pytest.fixture
def stored() -> MemoryPrompts:
    return MemoryStore().prompts


async def add(stored: MemoryPrompts, name: str, *texts: str, default: int = 0) -> PromptRow:
    """A prompt with these versions, of which the last is the default one."""
    row = PromptRow(f"pmpt_{secrets.token_hex(24)}", PROJECT, name, 1, 1)
    await stored.add(row, stored_template({"instructions": texts[0]}))
    for text in texts[1:]:
        await stored.publish(
            PROJECT, row.id, stored_template({"instructions": text}), 2, default=True
        )
    if default:
        await stored.change(PROJECT, row.id, PromptChange(default_version=default), 3)
    found = await stored.get(PROJECT, row.id)
    assert found is not None
    return found


async def export(folder: Path, stored: MemoryPrompts) -> list[str]:
    return [line.removeprefix(f"{folder}/") async for line in export_to(folder, PROJECT, stored)]


async def read(folder: Path, stored: MemoryPrompts, project: str = PROJECT) -> list[str]:
    return [line.removeprefix(f"{folder}/") async for line in import_from(folder, project, stored)]


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


async def texts(stored: MemoryPrompts, id_: str) -> list[str]:
    """The instructions of all versions, the first one first."""
    versions = await stored.versions(PROJECT, id_) or []
    return [version.template["instructions"] for version in reversed(versions)]


async def everything(stored: MemoryPrompts) -> list[tuple[Any, ...]]:
    """All that is stored but the times."""
    return [
        (row.id, row.name, row.default_version, version.version, version.template)
        for row in await stored.all(PROJECT)
        for version in await stored.versions(PROJECT, row.id) or []
    ]


# -- what the files look like --------------------------------------------------------------------


async def test_a_prompt_is_a_folder_that_people_can_read(
    stored: MemoryPrompts, tmp_path: Path
) -> None:
    template = {
        "instructions": "Answer {{who}}.\nBe kind.\n",
        "input": [
            {"role": "user", "content": "Hi\n  there"},
            {"role": "assistant", "content": "Hello"},
            {
                "role": "user",
                "content": [{"type": "input_image", "image_url": "https://a.example"}],
            },
        ],
        "temperature": 0.5,
        "tools": [{"type": "function", "name": "no", "parameters": {"type": "object"}}],
        "model": "m",
    }
    row = await add(stored, "Support: Answer!", "one", "two")
    await stored.publish(PROJECT, row.id, stored_template(template), 3, default=False)
    assert await export(tmp_path, stored) == ["support-answer: written"]
    assert tree(tmp_path) == {
        "support-answer/prompt.yaml": f"""\
id: {row.id}
name: 'Support: Answer!'
default_version: 2
template:
  model: m
  instructions: |
    Answer {{{{who}}}}.
    Be kind.
  input:
  - role: user
    content: |-
      Hi
        there
  - role: assistant
    content: Hello
  - role: user
    content:
    - type: input_image
      image_url: https://a.example
      detail: auto
  tools:
  - type: function
    name: no
    parameters:
      type: object
  temperature: 0.5
""",
        "support-answer/versions/1.yaml": "template:\n  instructions: one\n",
        "support-answer/versions/2.yaml": "template:\n  instructions: two\n",
    }


async def test_the_same_prompts_give_the_same_files(stored: MemoryPrompts, tmp_path: Path) -> None:
    first, second = await add(stored, "Same!", "a"), await add(stored, "same", "b", "c")
    await add(stored, "日本", "d")
    assert await export(tmp_path, stored) == [
        "same: written",
        f"same-{second.id[5:13]}: written",
        "prompt: written",
    ]
    before = tree(tmp_path)
    assert await export(tmp_path, stored) == [
        "same: unchanged",
        f"same-{second.id[5:13]}: unchanged",
        "prompt: unchanged",
    ]
    # A new name moves nothing; a folder that somebody moved stays where it is.
    await stored.change(PROJECT, first.id, PromptChange(name="Other"), 4)
    (tmp_path / "prompt").rename(tmp_path / "japan")
    assert await export(tmp_path, stored) == [
        "same: written",
        f"same-{second.id[5:13]}: unchanged",
        "japan: unchanged",
    ]
    changed = {path for path, text in tree(tmp_path).items() if before.get(path) != text}
    assert changed == {"same/prompt.yaml", "japan/prompt.yaml"}


async def test_what_is_not_stored_is_left_alone(stored: MemoryPrompts, tmp_path: Path) -> None:
    row = await add(stored, "gone", "a")
    await export(tmp_path, stored)
    before = tree(tmp_path)
    await stored.delete(PROJECT, row.id)
    assert await export(tmp_path, stored) == [
        f"gone: not stored in project {PROJECT}; left as it is"
    ]
    assert tree(tmp_path) == before


# -- and back ------------------------------------------------------------------------------------


async def test_an_empty_store_gets_the_same_prompts(stored: MemoryPrompts, tmp_path: Path) -> None:
    await add(stored, "One", "a", "b", "a", default=2)
    await add(stored, "Two", "x")
    await export(tmp_path, stored)
    other = MemoryStore().prompts
    assert await read(tmp_path, other) == ["one: version 3 is stored", "two: version 1 is stored"]
    assert sorted(await everything(other), key=str) == sorted(await everything(stored), key=str)
    before = tree(tmp_path)
    await export(tmp_path, other)
    assert tree(tmp_path) == before


async def test_messages_of_any_form_come_back(stored: MemoryPrompts, tmp_path: Path) -> None:
    said = {"type": "output_text", "text": "x"}
    template = stored_template(
        {
            "input": [
                {"role": "user", "content": []},
                {"role": "user", "content": [_text("a"), _text("b")]},
                {"role": "user", "content": [said]},
                {"role": "assistant", "content": [said], "phase": "commentary", "id": "msg_1"},
                {"role": "assistant", "content": [{**said, "logprobs": [{}]}]},
                {"role": "assistant", "content": [_text("x")], "status": "completed"},
                {"role": "assistant", "content": [{"type": "refusal", "refusal": "x"}]},
                {"role": "developer", "content": "", "mine": {"a": [None]}},
            ]
        }
    )
    row = await add(stored, "One", "a")
    await stored.publish(PROJECT, row.id, template, 2, default=True)
    await export(tmp_path, stored)
    (files,) = read_folder(tmp_path, PROJECT)
    assert files.newest == template
    assert await read(tmp_path, stored) == ["one: unchanged"]


def _text(text: str) -> Json:
    return {"type": "input_text", "text": text}


async def test_the_same_files_again_change_nothing(stored: MemoryPrompts, tmp_path: Path) -> None:
    await add(stored, "One", "a", "b", default=1)
    await add(stored, "Two", "x")
    await export(tmp_path, stored)
    rows = await stored.all(PROJECT)
    for _ in range(2):
        assert await read(tmp_path, stored) == ["one: unchanged", "two: unchanged"]
    assert await stored.all(PROJECT) == rows


async def test_a_changed_text_is_a_new_version(stored: MemoryPrompts, tmp_path: Path) -> None:
    row = await add(stored, "One", "a", "b")
    await export(tmp_path, stored)
    file = tmp_path / "one/prompt.yaml"
    old = file.read_text()
    for text in ("c", "d"):  # also without an export between two changes
        file.write_text(old.replace("instructions: b", f"instructions: {text}"))
        assert "stored" in (await read(tmp_path, stored))[0]
        assert await read(tmp_path, stored) == ["one: unchanged"]
    assert await texts(stored, row.id) == ["a", "b", "c", "d"]
    assert (await stored.all(PROJECT))[0].default_version == 4
    # What was taken back in git is the default again; nothing is published twice.
    file.write_text(old)
    assert await read(tmp_path, stored) == ["one: changed"]
    assert (await stored.all(PROJECT))[0].default_version == 2
    assert await texts(stored, row.id) == ["a", "b", "c", "d"]


async def test_a_default_that_is_written_down_stays(stored: MemoryPrompts, tmp_path: Path) -> None:
    await add(stored, "One", "a", "b", default=1)
    await export(tmp_path, stored)
    file = tmp_path / "one/prompt.yaml"
    file.write_text(file.read_text().replace("instructions: b", "instructions: c"))
    await read(tmp_path, stored)
    assert [(row.default_version, row.versions) for row in await stored.all(PROJECT)] == [(1, 3)]
    file.write_text(file.read_text().replace("name: One", "name: Won").replace(": 1\n", ": 2\n"))
    assert await read(tmp_path, stored) == ["one: changed"]
    assert [(row.name, row.default_version) for row in await stored.all(PROJECT)] == [("Won", 2)]


async def test_a_prompt_may_begin_as_a_file(stored: MemoryPrompts, tmp_path: Path) -> None:
    """Without an id it is the prompt of this project and folder."""
    (tmp_path / "greeting").mkdir()
    (tmp_path / ".git").mkdir()
    (tmp_path / "README.md").write_text("Prompts")
    (tmp_path / "greeting/prompt.yaml").write_text("template: {instructions: 'Hi {{name}}'}")
    assert await read(tmp_path, stored) == ["greeting: version 1 is stored"]
    assert await read(tmp_path, stored) == ["greeting: unchanged"]
    (row,) = await stored.all(PROJECT)
    assert (row.name, len(row.id)) == ("greeting", 53)
    assert await read(tmp_path, stored, "beta") == ["greeting: version 1 is stored"]
    assert await export(tmp_path, stored) == ["greeting: written"]
    assert await read(tmp_path, stored) == ["greeting: unchanged"]


async def test_what_is_left_of_an_import_is_done_by_the_next(
    stored: MemoryPrompts, tmp_path: Path
) -> None:
    row = await add(stored, "One", "a", "b", "a")
    await export(tmp_path, stored)
    other = MemoryStore().prompts
    await other.add(PromptRow(row.id, PROJECT, "One", 1, 1), stored_template({"instructions": "a"}))
    assert await read(tmp_path, other) == ["one: version 3 is stored"]
    assert await everything(other) == await everything(stored)


async def test_where_there_is_nothing_it_is_said(stored: MemoryPrompts, tmp_path: Path) -> None:
    """R-12: a project with a typing error is noticed."""
    folder = tmp_path / "typo"
    assert await export(folder, stored) == [f"no prompts in project '{PROJECT}'"]
    assert not folder.exists()
    folder.mkdir()
    assert await export(folder, stored) == [f"no prompts in project '{PROJECT}'"]
    assert await read(folder, stored) == [f"no prompts in folder '{folder}'"]


# -- what is refused -----------------------------------------------------------------------------


async def test_a_version_that_contradicts_the_stored_one(
    stored: MemoryPrompts, tmp_path: Path
) -> None:
    """Nothing is imported then, whichever file comes first."""
    row = await add(stored, "One", "a", "b")
    await export(tmp_path, stored)
    (tmp_path / "one/versions/1.yaml").write_text("template: {instructions: forged}")
    (tmp_path / "an-other").mkdir()
    (tmp_path / "an-other/prompt.yaml").write_text("template: {}")
    before = await everything(stored)
    with pytest.raises(PromptFileError) as caught:
        await read(tmp_path, stored)
    assert str(caught.value) == (
        f"{tmp_path}/one/versions/1.yaml: version 1 of {row.id} is stored with another text, and "
        "versions never change"
    )
    assert await everything(stored) == before


async def test_another_projects_id_is_not_taken(stored: MemoryPrompts, tmp_path: Path) -> None:
    """R-29."""
    row = await add(stored, "One", "a")
    await export(tmp_path, stored)
    with pytest.raises(PromptFileError, match="belongs to another project"):
        await read(tmp_path, stored, "beta")
    assert await stored.all("beta") == []
    assert await stored.version(PROJECT, row.id, None) == PromptVersion(
        row.id, 1, 1, {"instructions": "a"}
    )


async def test_a_project_and_a_prompt_have_limits(stored: MemoryPrompts, tmp_path: Path) -> None:
    """R-09: said before anything is stored."""
    for number in range(MOST_PROMPTS - 1):
        await stored.add(PromptRow(f"pmpt_{number}", PROJECT, "", 1, 1), {})
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompt.yaml").write_text("template: {}")
    with pytest.raises(PromptFileError, match="more than 1000 prompts, which is the limit"):
        await read(tmp_path, stored)
    assert len(await stored.all(PROJECT)) == MOST_PROMPTS - 1
    (tmp_path / "b/prompt.yaml").unlink()
    (tmp_path / "b").rmdir()
    assert await read(tmp_path, stored) == ["a: version 1 is stored"]
    row = (await stored.all(PROJECT))[0]
    for number in range(MOST_VERSIONS - 1):
        await stored.publish(PROJECT, row.id, {"temperature": number / 1000}, 1, default=False)
    (tmp_path / "a/prompt.yaml").write_text("template: {model: m}")
    with pytest.raises(PromptFileError, match="a prompt has at most 1000 versions"):
        await read(tmp_path, stored)


BILLION: Final = "a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\ntemplate: {metadata: *c}\n"
BAD: Final[dict[str, tuple[str, str]]] = {
    "aliases": (BILLION, "line 2: aliases are not allowed"),
    "tag": ("template: !!python/object:os.system {}", "line 1: tags are not allowed"),
    "twice": ("template: {}\ntemplate: {}", "line 2: the key 'template' is there twice"),
    "key": ("1: 2", "line 1: a key must be a text"),
    "deep": ("template: " + "[" * 5_000, "line 1: nested more than 128 levels deep"),
    "yaml": ("template: [", "line 1: expected the node content, but found '<stream end>'"),
    "two": ("a: 1\n---\nb: 2", "line 2: but found another document"),
    "control": ("a: \x07", "unacceptable character #x0007: special characters are not allowed"),
    "half": ('template: {instructions: "\\ud800"}', "surrogates not allowed"),
    "endless": ("template: {temperature: 1e999}", "Out of range float values"),
    "empty": ("", "Invalid type: expected an object, but got null instead."),
    "list": ("- a", "Invalid type: expected an object, but got an array instead."),
    "nothing": ("name: x", "Missing required parameter: 'template'."),
    "unknown": ("template: {}\nversion: 1", "Unknown parameter: 'version'."),
    "field": ("template: {stream: true}", "Unknown parameter: 'template.stream'."),
    "type": ("template: {temperature: yes}", "Invalid type for 'template.temperature'"),
    "rule": ("template: {model: ''}", "The requested model '' does not exist."),
    "id": ("id: resp_1\ntemplate: {}", "invalid id 'resp_1': it begins with 'pmpt_'"),
    "id\n": ('id: "pmpt_\\n"\ntemplate: {}', "Invalid 'id': 'pmpt_\\u000a'."),
    "default": ("default_version: 2\ntemplate: {}", "there is no version 2 that could be"),
    "zero": ("default_version: 0\ntemplate: {}", "Invalid 'default_version'"),
    "large": ("#" * 4_200_000, "larger than 4194304 bytes"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_file_is_named_in_one_line(
    name: str, stored: MemoryPrompts, tmp_path: Path
) -> None:
    """R-09, R-12."""
    content, says = BAD[name]
    for folder, text in (("bad", content), ("good", "template: {}")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "prompt.yaml").write_text(text)
    with pytest.raises(PromptFileError) as caught:
        await read(tmp_path, stored)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}/bad/prompt.yaml: ")
    assert says in message
    assert "\n" not in message
    assert await stored.all(PROJECT) == []


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a/prompt.yml": "template: {}"}, "a: has no prompt.yaml"),
        ({"a.yaml": "template: {}"}, "a.yaml: a prompt is a folder with a prompt.yaml"),
        (
            {"a/prompt.yaml": "template: {}", "a/versions/one.yaml": "template: {}"},
            "a/versions/one.yaml: a version is a file such as 1.yaml",
        ),
        (
            {"a/prompt.yaml": "template: {}", "a/versions/2.yaml": "template: {}"},
            "a/versions/1.yaml: version 1 is missing",
        ),
        (
            {"a/prompt.yaml": "template: {}", "a/versions/1.yaml": "id: pmpt_1\ntemplate: {}"},
            "a/versions/1.yaml: Unknown parameter: 'id'.",
        ),
        (
            {f"{name}/prompt.yaml": "id: pmpt_1\ntemplate: {}" for name in "ab"},
            "b: has the same id as",
        ),
    ],
)
async def test_a_folder_of_another_shape(
    files: dict[str, str], says: str, stored: MemoryPrompts, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    with pytest.raises(PromptFileError) as caught:
        await read(tmp_path, stored)
    assert f"{tmp_path}/{says}" in str(caught.value)
    assert await stored.all(PROJECT) == []


# -- the commands --------------------------------------------------------------------------------


def test_the_commands_take_prompts_from_one_database_to_another(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two, tmp_path / "files/hello"):
        folder.mkdir(parents=True)
    files = tmp_path / "files"
    (files / "hello/prompt.yaml").write_text("template: {instructions: Hi}")
    done = antiphon(one, "prompts", "import", str(files), "--project", "p")
    assert (done.returncode, done.stdout) == (0, f"{files}/hello: version 1 is stored\n")
    done = antiphon(one, "prompts", "export", str(tmp_path / "out"), "--project", "p")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out/hello: written\n")
    done = antiphon(two, "prompts", "import", str(tmp_path / "out"), "--project", "q")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path}/out/hello: version 1 is stored\n")
    (files / "hello/prompt.yaml").write_text("template: [")
    done = antiphon(one, "prompts", "import", str(files), "--project", "p")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"antiphon: {files}/hello/prompt.yaml: line 1: ")
    (files / "hello/prompt.yaml").unlink()
    assert read_folder(tmp_path / "out", "p")[0].newest == {"instructions": "Hi"}


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["import", "nowhere"], {}, "[Errno 2] No such file or directory: 'nowhere'"),
        (["import", "."], {"ANTIPHON_DATABASE_URL": "memory://"}, "memory:// keeps no prompts"),
        (["export", "x", "--project", "a b"], {}, "a project is 1 to 64 letters"),
        (["export", "file"], {}, "[Errno 20] Not a directory: 'file'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: list[str], env: dict[str, str], says: str
) -> None:
    (done,) = outcomes([Case(["prompts", *arguments], env, {"file": ""})])
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].startswith(f"antiphon: {says}")
