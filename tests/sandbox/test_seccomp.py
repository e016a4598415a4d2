"""The filter of system calls, run by a small interpreter of BPF for both sorts of machines."""

import struct

import pytest

from antiphon.sandbox.seccomp import program

X86, ARM = 0xC000003E, 0xC00000B7
MACHINES = {"x86_64": X86, "aarch64": ARM}
ALLOW, KILL = "allow", "kill"


def verdict(machine: str, number: int, *words: int, audit: int | None = None) -> str | int:
    """What the filter says: to allow, to kill, or the number of an error."""
    code = program(machine)
    assert code is not None
    lines = list(struct.iter_unpack("=HBBI", code))
    audit = MACHINES[machine] if audit is None else audit
    seen = struct.pack("=IIQ6Q", number, audit, 0, *(*words, *[0] * (6 - len(words))))
    value = at = 0
    while True:
        operation, if_so, if_not, number = lines[at]
        at += 1
        match operation:
            case 0x20:
                (value,) = struct.unpack_from("=I", seen, number)
            case 0x15:
                at += if_so if value == number else if_not
            case 0x35:
                at += if_so if value >= number else if_not
            case 0x45:
                at += if_so if value & number else if_not
            case 0x06:
                return {0x7FFF0000: ALLOW, 0x80000000: KILL}.get(number, number & 0xFFFF)
            case _:
                raise AssertionError(f"what is {operation:#x}?")


def test_calls_that_programs_need_pass() -> None:
    for number in (0, 1, 2, 9, 11, 12, 13, 39, 57, 59, 60, 61, 186, 202, 231, 257, 318, 334, 439):
        assert verdict("x86_64", number) == ALLOW
    for number in (56, 63, 64, 93, 94, 98, 134, 172, 214, 215, 221, 222, 226, 260, 278, 439):
        assert verdict("aarch64", number) == ALLOW


@pytest.mark.parametrize(
    ("machine", "numbers"),
    [
        (
            "x86_64",
            (
                *(101, 155, 161, 165, 166, 169, 172, 175, 246, 248, 249, 250, 253, 272, 294, 298),
                *(300, 303, 304, 308, 310, 311, 313, 319, 321, 323, 29, 64, 68, 240, 425, 426),
                *(427, 428, 429, 430, 431, 432, 433, 438, 440, 442, 447, 467),
            ),
        ),
        (
            "aarch64",
            (
                *(39, 40, 41, 51, 97, 104, 105, 117, 142, 180, 186, 190, 194, 217, 218, 219),
                *(241, 262, 264, 265, 268, 270, 271, 273, 279, 280, 282, 26, 425, 426, 427, 428),
                *(438, 442, 447),
            ),
        ),
    ],
)
def test_calls_that_lead_out_are_refused(machine: str, numbers: tuple[int, ...]) -> None:
    assert {number: verdict(machine, number) for number in numbers} == dict.fromkeys(numbers, 1)


@pytest.mark.parametrize(("machine", "clone"), [("x86_64", 56), ("aarch64", 220)])
def test_processes_and_threads_are_made_but_no_namespaces(machine: str, clone: int) -> None:
    thread = 0x3D0F00
    assert verdict(machine, clone, thread) == ALLOW
    assert verdict(machine, clone, 17) == ALLOW
    for flag in (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, clone, flag | 17) == 1
        assert verdict(machine, clone, thread | flag) == 1
    assert verdict(machine, 435, 0) == 38


@pytest.mark.parametrize(("machine", "clone"), [("x86_64", 56), ("aarch64", 220)])
def test_threads_have_no_files_of_their_own(machine: str, clone: int) -> None:
    """What is open there would be seen by nobody."""
    assert verdict(machine, clone, 0x3D0F00 & ~0x400) == 1
    assert verdict(machine, clone, 0x4111) == ALLOW
    assert [verdict(machine, 436, 3, 9, flags) for flags in (0, 4, 2, 6)] == [ALLOW, ALLOW, 1, 1]


@pytest.mark.parametrize(("machine", "calls"), [("x86_64", (41, 53)), ("aarch64", (198, 199))])
def test_sockets_are_of_the_families_that_a_kernel_needs(
    machine: str, calls: tuple[int, int]
) -> None:
    for call in calls:
        assert verdict(machine, call, 1, 1, 0) == ALLOW
        assert [verdict(machine, call, 2, 1, protocol) for protocol in (0, 6, 17)] == [ALLOW] * 3
        assert verdict(machine, call, 16, 3, 0) == ALLOW
        for family, protocol in ((2, 1), (2, 132), (2, 262), (16, 4), (16, 9), (16, 16)):
            assert verdict(machine, call, family, 3, protocol) == 97
        for family in (0, 3, 10, 15, 17, 29, 31, 38, 40, 44, 45, 0xFFFFFFFF):
            assert verdict(machine, call, family, 2, 0) == 97


@pytest.mark.parametrize("machine", MACHINES)
def test_another_convention_ends_the_process(machine: str) -> None:
    for audit in (0x40000003, 0x40000028, 0, X86 if machine == "aarch64" else ARM):
        assert verdict(machine, 1, audit=audit) == KILL
    if machine == "x86_64":
        assert verdict(machine, 0x40000000 + 39) == KILL
        assert verdict(machine, 0xFFFFFFFF) == KILL


def test_of_other_machines_nobody_knows_the_numbers() -> None:
    assert program("riscv64") is None
