#!/usr/bin/env python3
"""An independent verifier of a Craton audit journal, written from format.md alone.

Usage: verify_journal.py JOURNAL [KEY...]
KEY is a trusted public key in 64 hexadecimal digits, or in 128 with its ML-DSA-44 half: the first, each that its predecessor did
not sign for, and the one with which ML-DSA-44 began.
Exit status: 0 the journal verifies, 1 it does not (the first finding is printed), 2 wrong usage, 3 nothing is wrong so far, but
ML-DSA-44 signatures could not be checked. It needs Python 3.8 or newer and no secret, for ML-DSA-44 the package cryptography,
version 48 or newer, and knows record versions 1 and 2.
"""
import base64
import hashlib
import json
import os
import re
import struct
import sys
import zlib

try:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey
except ImportError:
    MLDSA44PublicKey = None

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


def signed_by_ml_dsa_44(key, message, signature):
    """None where that cannot be told."""
    try:
        MLDSA44PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except (AttributeError, UnsupportedAlgorithm) if MLDSA44PublicKey else AttributeError:
        return None
    except (InvalidSignature, ValueError):
        return False


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


def digits(text, count):
    if not re.fullmatch(f"[0-9a-f]{{{2 * count}}}", text):
        raise Finding("a malformed key or signature")
    return bytes.fromhex(text)


def named(detail):
    """A key: its Ed25519 half, and its ML-DSA-44 half or none."""
    second = detail.get("ml_dsa_44_key")
    return digits(detail["key"], 32), second if second is None else digits(second, 1312)


def pin(key):
    return key[0] + (hashlib.sha256(key[1]).digest() if key[1] else b"")


class Journal:
    def __init__(self, trusted):
        self.trusted, self.key, self.announced = trusted, None, None
        # Whether the ML-DSA-44 half of the key stands on a trusted one; how far such signatures go, and those that stand; how many
        # could not be checked.
        self.stands, self.both, self.standing, self.unchecked, self.generation = False, 0, 0, 0, 0
        self.seq, self.head, self.time, self.version, self.peaks = 0, "0" * 64, 0, 1, []
        self.signed, self.checkpoints, self.uncertified = 0, 0, []

    def known(self, key):
        return pin(key) in self.trusted and key[1] is not None

    def take_key(self, key):
        if self.trusted and not {pin(key), key[0]} & set(self.trusted):
            raise Finding(f"the key {pin(key).hex()} is not one that is trusted")
        if self.key and self.key[1]:
            if not key[1]:
                raise Finding("a key without an ML-DSA-44 half, for which the one before did not sign")
            if any(len(each) == 64 for each in self.trusted) and not self.known(key):
                raise Finding(f"the key {pin(key).hex()} is not trusted with its ML-DSA-44 half")
        self.key, self.stands = key, self.known(key)

    def made(self, key, text, detail):
        """Whether a key made the signature of a checkpoint, or both."""
        if not signed_by(key[0], text, digits(detail["signature"], 64)):
            return False
        if key[1] is None or "ml_dsa_44_signature" not in detail:
            return key[1] is None and "ml_dsa_44_signature" not in detail
        second, name = digits(detail["ml_dsa_44_signature"], 2428), detail["origin"].encode()
        name = bytes([len(name)]) + name
        message = b"subtree/v1\n\0" + name + second[:8] + name + struct.pack(">QQ", 0, detail["size"]) + bytes.fromhex(detail["root"])
        verdict = signed_by_ml_dsa_44(key[1], message, second[8:])
        self.unchecked += verdict is None
        return verdict is not False

    def covered(self, size):
        """A checkpoint is by the key in use."""
        if self.key[1]:
            self.both, self.standing = size, size if self.stands else self.standing

    def checkpoint(self, record):
        detail = record["detail"]
        if detail["size"] != self.seq or detail["root"] != root(self.peaks).hex():
            raise Finding("the checkpoint is not of the records before it")
        encoded = base64.b64encode(bytes.fromhex(detail["root"])).decode()
        text = f"{detail['origin']}\n{detail['size']}\n{encoded}\ngeneration {record['generation']}\n".encode()
        if self.key and self.made(self.key, text, detail):
            self.covered(self.seq)
            if self.announced:
                self.stands = self.announced[1] is not None and (self.stands or self.known(self.announced))
                self.key = self.announced
        elif self.key and self.announced and self.made(self.announced, text, detail):
            self.take_key(self.announced)
            self.covered(self.seq)
            self.uncertified.append(record["seq"])
        else:
            raise Finding("a signature of the checkpoint is missing or does not verify")
        if "ml_dsa_44_signature" in detail and record["generation"] != self.generation:
            raise Finding("the checkpoint's generation is not the highest of the records before it")
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
            if self.key is None:
                self.take_key(named(record["detail"]))
            else:
                self.announced = named(record["detail"])
        elif record["op"] == "segment_open":
            if record["detail"]["peaks"] != b"".join(self.peaks).hex():
                raise Finding("the file does not begin where the one before it ended")
            if self.key and "key" in record["detail"] and named(record["detail"]) != self.key:
                raise Finding("the file begins with another key")
        elif record["op"] == "checkpoint":
            self.checkpoint(record)
        self.generation = max(self.generation, record["generation"])
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
    if any(len(key) == 64 for key in trusted) and not journal.standing:
        raise Finding("no checkpoint has an ML-DSA-44 signature by a key that is trusted")
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
    what = f"{sys.argv[1]}: {journal.seq} records, head {journal.head}, signed up to record {journal.signed}"
    if journal.unchecked:
        print(f"{what} by Ed25519; NOT CHECKED: the ML-DSA-44 signatures of {journal.unchecked} checkpoints.")
        print("Install the Python package cryptography, version 48 or newer, and run this again.")
        return 3
    if journal.both:
        what += f", with ML-DSA-44 too up to record {journal.both}, from a trusted key up to record {journal.standing}"
    print(what)
    return 0


if __name__ == "__main__":
    sys.exit(main())
