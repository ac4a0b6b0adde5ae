#!/usr/bin/env python3
"""An independent verifier of a Craton audit journal, written from format.md alone.

Usage: verify_journal.py JOURNAL [KEY...]
KEY is a trusted public key in 64 hexadecimal digits: the first, and each that its predecessor did not sign for.
Exit status: 0 the journal verifies, 1 it does not (the first finding is printed), 2 wrong usage.
It needs Python 3.8 or newer and no secret, and knows record versions 1 and 2.
"""
import base64
import hashlib
import json
import os
import re
import sys
import zlib

STRING, NUMBER, OBJECT = str, int, dict
MEMBERS = {
    "app": STRING, "boot": STRING, "change": bool, "client": OBJECT, "detail": OBJECT,
    "generation": NUMBER, "mechanism": STRING, "object": OBJECT, "op": STRING, "params": STRING, "prev": STRING,
    "request": STRING, "rv": STRING, "seq": NUMBER, "session": NUMBER, "time": NUMBER, "token": STRING, "v": NUMBER,
    "with": OBJECT,
}
REQUIRED = {"boot", "client", "generation", "op", "prev", "rv", "seq", "time", "v"}
SUM = {1: "crc", 2: "sum"}


class Finding(Exception):
    pass


# --- Ed25519 verification, RFC 8032 section 5.1 ---
P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT = pow(2, (P - 1) // 4, P)


def add(p, q):
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P


def times(n, p):
    q = (0, 1, 1, 0)
    while n:
        if n & 1:
            q = add(q, p)
        p, n = add(p, p), n >> 1
    return q


def point(data):
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & ((1 << 255) - 1)
    x2 = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(x2, (P + 3) // 8, P)
    if (x * x - x2) % P:
        x = x * ROOT % P
    if y >= P or (x * x - x2) % P or (x == 0 and sign):
        raise ValueError("no point of the curve")
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P


BASE = point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))


def signed_by(key, message, signature):
    try:
        r, a, s = point(signature[:32]), point(key), int.from_bytes(signature[32:], "little")
    except ValueError:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + key + message).digest(), "little") % L
    left, right = times(s, BASE), add(r, times(h, a))
    same = (left[0] * right[2] - right[0] * left[2]) % P == 0 and (left[1] * right[2] - right[1] * left[2]) % P == 0
    return s < L and same


# --- the tree, RFC 6962 section 2.1: roots of the perfect subtrees, the largest first ---
def node(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def push(peaks, size, leaf):
    while size & 1:
        leaf, size = node(peaks.pop(), leaf), size >> 1
    peaks.append(leaf)


def root(peaks):
    if not peaks:
        return hashlib.sha256(b"").digest()
    top = peaks[-1]
    for peak in reversed(peaks[:-1]):
        top = node(peak, top)
    return top


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode("utf-8")


def parse(line):
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError as error:
        raise Finding(f"not a journal record ({error})")
    if not isinstance(record, dict) or "v" not in record:
        raise Finding("not a journal record")
    version = record["v"]
    if type(version) is not int or version not in SUM:
        raise Finding(f"record version {version} is unknown to this program, which reads versions 1 and 2")
    rest = dict(record)
    said = rest.pop(SUM[version], None)
    if not REQUIRED <= rest.keys() <= MEMBERS.keys():
        raise Finding("members are missing or unknown")
    for name, value in rest.items():
        if type(value) is not MEMBERS[name]:
            raise Finding(f"member {name} is of the wrong kind")
    if canonical(record) != line:
        raise Finding("the bytes are not in canonical form")
    if said != f"{zlib.crc32(canonical(rest)):08x}":
        raise Finding("the check sum does not match")
    return record


class Journal:
    def __init__(self, trusted):
        self.trusted, self.key, self.announced = trusted, None, None
        self.seq, self.head, self.time, self.version, self.peaks = 0, "0" * 64, 0, 1, []
        self.signed, self.checkpoints, self.uncertified = 0, 0, []

    def take_key(self, key):
        if self.trusted and key not in self.trusted:
            raise Finding(f"the key {key.hex()} is not one that is trusted")
        self.key = key

    def checkpoint(self, record):
        detail = record["detail"]
        if detail["size"] != self.seq or detail["root"] != root(self.peaks).hex():
            raise Finding("the checkpoint is not of the records before it")
        encoded = base64.b64encode(bytes.fromhex(detail["root"])).decode()
        text = f"{detail['origin']}\n{detail['size']}\n{encoded}\ngeneration {record['generation']}\n".encode()
        signature = bytes.fromhex(detail["signature"])
        if self.key and signed_by(self.key, text, signature):
            self.key = self.announced or self.key
        elif self.key and self.announced and signed_by(self.announced, text, signature):
            self.take_key(self.announced)
            self.uncertified.append(record["seq"])
        else:
            raise Finding("the signature of the checkpoint does not verify")
        self.announced, self.signed, self.checkpoints = None, self.seq, self.checkpoints + 1

    def line(self, line):
        if not line.endswith(b"\n"):
            raise Finding("the last line is incomplete")
        line = line[:-1]
        record = parse(line)
        if record["seq"] != self.seq + 1:
            raise Finding(f"sequence {record['seq']} where {self.seq + 1} belongs")
        if record["prev"] != self.head:
            raise Finding(f"the record does not continue record {self.seq}")
        if record["time"] < self.time:
            raise Finding("the time is before that of the record above")
        if record["v"] < self.version:
            raise Finding("the version is below that of the record above")
        if record["op"] == "journal_key":
            key = bytes.fromhex(record["detail"]["key"])
            if self.key is None:
                self.take_key(key)
            else:
                self.announced = key
        elif record["op"] == "segment_open":
            if record["detail"]["peaks"] != b"".join(self.peaks).hex():
                raise Finding("the file does not begin where the one before it ended")
            if self.key and record["detail"].get("key") not in (None, self.key.hex()):
                raise Finding("the file begins with another key")
        elif record["op"] == "checkpoint":
            self.checkpoint(record)
        leaf = hashlib.sha256(b"\0" + line).digest()
        push(self.peaks, self.seq, leaf)
        self.seq, self.time, self.version = record["seq"], record["time"], record["v"]
        self.head = hashlib.sha256(line).hexdigest() if self.version == 1 else leaf.hex()


def verify(path, trusted):
    known = None
    try:
        with open(path + ".head", encoding="utf-8") as file:
            known = json.load(file)
    except (OSError, ValueError):
        pass
    folder, name = os.path.split(path)
    stem, extension = os.path.splitext(name)
    closed = re.compile(re.escape(stem) + r"-\d{20}" + re.escape(extension))
    files = sorted(os.path.join(folder, found) for found in os.listdir(folder or ".") if closed.fullmatch(found))
    journal = Journal(trusted)
    for each in files + [path]:
        with open(each, "rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    journal.line(line)
                    if known and known["seq"] == journal.seq and known["hash"] != journal.head:
                        raise Finding("not the record that was remembered")
                except (Finding, KeyError, ValueError) as finding:
                    raise Finding(f"{each} line {number}: {finding}")
    if known and known["seq"] > journal.seq:
        raise Finding(f"the journal ends at record {journal.seq}, but record {known['seq']} was written")
    if trusted and not journal.checkpoints:
        raise Finding("no checkpoint is signed")
    if journal.uncertified and not trusted:
        raise Finding(f"the key changes at record {journal.uncertified[0]} without the signature of the key before")
    return journal


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        journal = verify(sys.argv[1], [bytes.fromhex(key) for key in sys.argv[2:]])
    except (Finding, OSError) as finding:
        print(f"{sys.argv[1]}: {finding}")
        return 1
    print(f"{sys.argv[1]}: {journal.seq} records, head {journal.head}, signed up to record {journal.signed}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
