"""Changes to what has a structure, which a fuzzer that flips bytes would only break: JSON, TOML, parts of a bundle."""

from __future__ import annotations

import json
import re
import struct
import tomllib
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any

import tomli_w

Mutate = Callable[[bytes, Random], bytes | None]  # None: it isn't of that structure

MARK = re.compile(rb"(?:\A|\n)#([^\n]{0,80})\n")

# What a field holds that nobody thought of.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 255, 1 << 15, 1 << 31, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, 1 << 64, 10**40),
    *(0.0, -0.0, 0.5, -1.5, 1e-320, 1e38, 1e308, -1e308, float("inf"), float("nan")),
    *(
        "",
        "a",
        "0" * 16,
        "f" * 64,
        "a" * 5000,
        "../..",
        "/etc/passwd",
        "\x1b[31m\n",
        "\u202e\u2028",
        "\ud800",
        "\0",
        "é",
    ),
    *([], {}, [[]], [0], [""], {"": 0}, {"\x1b]0;a\x07": 0}, [None] * 300),
)


def of_json(content: bytes, random: Random) -> bytes | None:
    """One field of a JSON document changed."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    with suppress(ValueError, RecursionError):
        return json.dumps(_changed(found, random), indent=random.choice((None, 1))).encode()
    return None


def of_toml(content: bytes, random: Random) -> bytes | None:
    """One key of a TOML document changed."""
    try:
        found = tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    with suppress(Exception):  # what TOML can't say
        return tomli_w.dumps(_changed(found, random)).encode()
    return None


def of_parts(content: bytes, random: Random) -> bytes | None:
    """Of what `parts` reads one part that is JSON changed; or one is left out, doubled, or has another's content."""
    found = parts(content)
    if not found:
        return None
    index = random.randrange(len(found))
    name, body = found[index]
    if random.random() < 0.8:
        if (other := of_json(body, random)) is None:
            return None
        found[index] = name, other
    else:
        _, another = random.choice(found)
        found[index : index + 1] = random.choice(([], [found[index]] * 2, [(name, another)]))
    return joined(found)


def of_lines(content: bytes, random: Random) -> bytes | None:
    """Of lines of JSON one changed, left out, doubled, or put elsewhere."""
    lines = content.splitlines(keepends=True)
    if not lines:
        return None
    index = random.randrange(len(lines))
    if random.random() < 0.8:
        if (other := of_json(lines[index], random)) is None:
            return None
        lines[index] = other.replace(b"\n", b"") + b"\n"
    else:
        lines[index : index + 1] = random.choice(([], [lines[index]] * 2, [random.choice(lines)]))
    return b"".join(lines)


def of_sound(content: bytes, random: Random) -> bytes | None:
    """A number in a sound file's header changed: of a RIFF's chunks, whose sizes are mostly right, or of a FLAC's."""
    if content[:4] == b"fLaC":
        begin = random.randrange(4, 42)
        return content[:begin] + _number(random) + content[begin + random.randrange(1, 9) :]
    chunks = _chunks(content)
    if not chunks:
        return None
    index = random.randrange(len(chunks))
    name, body = chunks[index]
    chance = random.random()
    if chance < 0.6:
        begin = random.choice((0, 2, 4, 8, 12, 14, 16, random.randrange(len(body) + 1)))
        number = _number(random)
        chunks[index] = name, body[:begin] + number + body[begin + len(number) :]
    elif chance < 0.8:
        chunks[index] = random.choice((b"fmt ", b"data", b"fact", b"LIST", b"PEAK", b"ds64", b"bext", b"abcd")), body
    else:
        chunks[index : index + 1] = random.choice(([], [chunks[index]] * 2, [random.choice(chunks), chunks[index]]))
    sizes = [
        len(body) if random.random() < 0.9 else random.choice((0, 1, 1 << 31, (1 << 32) - 1)) for _, body in chunks
    ]
    whole = b"".join(name + struct.pack("<I", size) + body for (name, body), size in zip(chunks, sizes, strict=True))
    return content[:4] + struct.pack("<I", len(whole) + 4) + content[8:12] + whole


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    """Of a RIFF file, those that are whole: names and bodies, the padding of odd ones among these."""
    found, place = [], 12
    while place + 8 <= len(content):
        size = int.from_bytes(content[place + 4 : place + 8], "little")
        end = min(len(content), place + 8 + size + size % 2)
        found.append((content[place : place + 4], content[place + 8 : end]))
        place = end
    return found


def _number(random: Random) -> bytes:
    size = random.choice((1, 2, 4, 8))
    value = random.choice((0, 1, 2, 3, 7, 17, 32, 49, 65534, 1 << 15, (1 << 31) - 1, -1, -2, random.randrange(1 << 32)))
    return (value % (1 << 8 * size)).to_bytes(size, random.choice(("little", "big")))


def parts(content: bytes) -> list[tuple[bytes, bytes]]:
    """Names and bodies: each part is a line `#name`, what follows is its body, and a newline before the next."""
    found = MARK.split(content)[1:]
    return list(zip(found[::2], found[1::2], strict=True))


def joined(found: list[tuple[bytes, bytes]]) -> bytes:
    """The content that has these parts."""
    return b"\n".join(b"#" + name + b"\n" + body for name, body in found)


def _changed(found: Any, random: Random) -> Any:
    """One place in a tree of mappings and lists changed, each with the same chance."""
    places = list(_places(found))
    if not places:
        return random.choice(ODD)
    holder, key = random.choice(places)
    chance = random.random()
    if chance < 0.15:
        del holder[key]
    elif chance < 0.3:
        donor, other = random.choice(places)
        holder[key] = json.loads(json.dumps(donor[other]))  # a copy: nothing holds itself
    elif chance < 0.4 and isinstance(holder, dict):
        new = random.choice(("a", "", f"{key}x", "\x1b[31m", "a" * 3000, "a`b", "a.b", str(random.choice(places)[1])))
        holder[new] = holder.pop(key)
    elif chance < 0.45 and isinstance(holder, list):
        holder[key:key] = [holder[key]] * random.choice((1, 2, 100))
    elif chance < 0.6 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] * random.choice((-1, 2, 0.5, 10, 1000)) + random.choice((0, 1, -1))
    elif chance < 0.7 and isinstance(holder[key], str):
        place = random.randrange(len(holder[key]) + 1)
        holder[key] = holder[key][:place] + str(random.choice(ODD)) + holder[key][place + random.randrange(3) :]
    else:
        holder[key] = random.choice(ODD)
    return found


def _places(tree: Any) -> Any:
    """Every mapping or list in a tree with every key or index of it."""
    keys = tree if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from _places(tree[key])
