"""The bytes of state files, made without a state; and what the library's own parser, not `open`, reads from some."""

from zlib import crc32

from mmapstate import StateFileError
from mmapstate.file import content
from mmapstate.file.format import Position, marker, record, seed

GENERATION = 0xAA
SLACK = b"#" + b" " * 40
PAYLOADS = [
    b'["set", [], "n", 2]',
    b'[["set", [], "list", []], ["splice", ["list"], 0, 0, [1, "\xc3\xa9"]]]',
    b'["insert", ["list"], 1, {"x": .inf}]',
    b'["delete", [], "n"]',
]


def written(snapshot, payloads=PAYLOADS, slack=SLACK, line_end=b"\n"):
    """Return the bytes of a state file as it is after these commits."""
    data = snapshot + marker(GENERATION, Position(0xBB, 11), crc32(snapshot))
    crc = seed(GENERATION)
    for payload in payloads:
        text, crc = record(payload, crc)
        data += text
    return (data + slack).replace(b"\n", line_end)


FILES = {
    "at rest": b"n: 1\ntext: 'x'\n",
    "a journal": written(b"n: 1\n"),
    "an empty snapshot": written(b"", PAYLOADS[:2]),
    "comments": written(b"# mine\nn: 1  # yours\nb: |\n  x\n", PAYLOADS[:2]),
    "junk": written(b"n: 1\n", PAYLOADS[:1], b'#-- ["set", [], "n", 9] #0000' + b" " * 20),
    "an unborn journal": b"n: 1\n#" + written(b"n: 1\n", [])[6:],
    "CRLF": written(b"n: 1\r\n", PAYLOADS[:2], line_end=b"\n").replace(b"#", b"#"),
}
NASTY = [b"\n", b"\r", b"-", b"#", b"\x00", b" ", b'"', b":", b"\xff", b"0", b"[", b"\xc3"]


def read(data):
    """Return the parts of a file and the state in it, or None and None where it is refused."""
    try:
        parts = content.layout(data, "it")
        return parts, content.read(data, parts, "it").state
    except StateFileError:
        return None, None
