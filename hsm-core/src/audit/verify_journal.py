#!/usr/bin/env python3
"""An independent verifier of a Craton audit journal, written from format.md alone.

Usage: verify_journal.py JOURNAL
Exit status: 0 the journal verifies, 1 it does not (the first finding is printed), 2 wrong usage.
It needs Python 3.8 or newer and no secret, and knows record version 1.
"""
import hashlib
import json
import re
import sys
import zlib

STRING, NUMBER, OBJECT = str, int, dict
MEMBERS = {
    "app": STRING, "boot": STRING, "change": bool, "client": OBJECT, "crc": STRING, "detail": OBJECT,
    "generation": NUMBER, "mechanism": STRING, "object": OBJECT, "op": STRING, "params": STRING, "prev": STRING,
    "request": STRING, "rv": STRING, "seq": NUMBER, "session": NUMBER, "time": NUMBER, "token": STRING, "v": NUMBER,
    "with": OBJECT,
}
REQUIRED = {"boot", "client", "crc", "generation", "op", "prev", "rv", "seq", "time", "v"}
CRC_MEMBER = re.compile(rb'"crc":"[0-9a-f]{8}",')


class Finding(Exception):
    pass


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def parse(line):
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise Finding(f"not a journal record ({error})")
    if not isinstance(record, dict) or "v" not in record:
        raise Finding("not a journal record")
    if record["v"] != 1:
        raise Finding(f"record version {record['v']} is unknown to this program, which reads version 1")
    if not REQUIRED <= record.keys() <= MEMBERS.keys():
        raise Finding("members are missing or unknown")
    for name, value in record.items():
        if type(value) is not MEMBERS[name]:
            raise Finding(f"member {name} is of the wrong kind")
    if canonical(record) != line:
        raise Finding("the bytes are not in canonical form")
    member = CRC_MEMBER.search(line)
    if member is None:
        raise Finding("the check sum is malformed")
    rest = line[: member.start()] + line[member.end():]
    if f"{zlib.crc32(rest):08x}" != record["crc"]:
        raise Finding("the check sum does not match")
    return record


def verify(path):
    known = None
    try:
        with open(path + ".head", encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        pass
    seq, previous, time = 0, "0" * 64, 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if not line.endswith(b"\n"):
                    raise Finding("the last line is incomplete")
                record = parse(line[:-1])
                if record["seq"] != seq + 1:
                    raise Finding(f"sequence {record['seq']} where {seq + 1} belongs")
                if record["prev"] != previous:
                    raise Finding(f"the record does not continue record {seq}")
                if record["time"] < time:
                    raise Finding("the time is before that of the record above")
                seq, time = record["seq"], record["time"]
                previous = hashlib.sha256(line[:-1]).hexdigest()
                if known and known["seq"] == seq and known["hash"] != previous:
                    raise Finding("not the record that was remembered")
            except Finding as finding:
                raise Finding(f"line {number}: {finding}")
    if known and known["seq"] > seq:
        raise Finding(f"line {seq + 1}: the journal ends at record {seq}, but record {known['seq']} was written")
    return seq, previous


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        seq, head = verify(sys.argv[1])
    except (Finding, OSError) as finding:
        print(f"{sys.argv[1]}: {finding}")
        return 1
    print(f"{sys.argv[1]}: {seq} records, head {head}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
