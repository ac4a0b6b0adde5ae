#!/usr/bin/env python3
"""An independent verifier of the journal of craton-pki, written from the README alone.

Usage: verify_journal.py journal RECORDS NOTE KEY    the exported records are those that the checkpoint signs
       verify_journal.py proof PROOF KEY             every proof in a file of `craton-pki journal prove --json` holds
RECORDS, NOTE and KEY are what `craton-pki journal export` writes; KEY is the journal's public key in PEM, from somewhere you trust.
Exit status: 0 it holds, 1 it does not (the first finding is printed), 2 wrong usage.
It needs Python 3.8 or newer and the program openssl, which checks the signatures.
"""
import base64
import hashlib
import json
import os
import subprocess
import sys
import tempfile


class Finding(Exception):
    pass


def leaf_hash(line):
    return hashlib.sha256(b"\0" + line).digest()


def node_hash(left, right):
    return hashlib.sha256(b"\1" + left + right).digest()


def root_of(hashes):
    """RFC 6962 section 2.1: pairs from the left, the odd one out goes up as it is."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    level = list(hashes)
    while len(level) > 1:
        pairs = [node_hash(level[at], level[at + 1]) for at in range(0, len(level) - 1, 2)]
        level = pairs + level[len(pairs) * 2:]
    return level[0]


def der_of(pem):
    body = "".join(line for line in pem.splitlines() if not line.startswith("-----"))
    return base64.b64decode(body)


def digest_for(key_der):
    """The hash function that a key signs with; None for the kinds that hash by themselves."""
    p256, p384 = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06052b81040022")
    p521, rsa = bytes.fromhex("06052b81040023"), bytes.fromhex("06092a864886f70d010101")
    for oid, digest in ((p256, "sha256"), (p384, "sha384"), (p521, "sha512"), (rsa, "sha256")):
        if oid in key_der[:40]:
            return digest
    return None


def open_note(note, key_file):
    """The size and root of a note whose signature by the key is good."""
    text, separator, signatures = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3:
        raise Finding("the checkpoint is not a signed note")
    text += "\n"
    with open(key_file, encoding="ascii") as file:
        key_der = der_of(file.read())
    ed25519 = bytes.fromhex("302a300506032b6570032100")
    if key_der.startswith(ed25519):
        named = lines[0].encode() + b"\n\x01" + key_der[len(ed25519):]
    else:
        named = key_der
    key_id = hashlib.sha256(named).digest()[:4]
    begin = "\u2014 " + lines[0] + " "
    for line in signatures.splitlines():
        signed = base64.b64decode(line[len(begin):]) if line.startswith(begin) else b""
        if signed[:4] == key_id:
            verify(text.encode(), signed[4:], key_file, digest_for(key_der))
            return lines[0], int(lines[1]), base64.b64decode(lines[2])
    raise Finding("the checkpoint is not signed by this key")


def verify(text, signature, key_file, digest):
    with tempfile.TemporaryDirectory() as folder:
        text_file, signature_file = os.path.join(folder, "text"), os.path.join(folder, "signature")
        for path, content in ((text_file, text), (signature_file, signature)):
            with open(path, "wb") as file:
                file.write(content)
        if digest:
            command = ["openssl", "dgst", "-" + digest, "-verify", key_file, "-signature", signature_file, text_file]
        else:
            command = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", key_file,
                       "-sigfile", signature_file, "-in", text_file]
        if subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode != 0:
            raise Finding("the checkpoint's signature is false")


def root_by(path, index, size, hash_):
    """RFC 9162 section 2.1.3.2."""
    if index >= size:
        raise Finding("the place is outside of the journal")
    at, last = index, size - 1
    for sibling in path:
        if last == 0:
            raise Finding("the proof is too long")
        if at % 2 == 1 or at == last:
            hash_ = node_hash(sibling, hash_)
            while at % 2 == 0 and at != 0:
                at, last = at // 2, last // 2
        else:
            hash_ = node_hash(hash_, sibling)
        at, last = at // 2, last // 2
    if last != 0:
        raise Finding("the proof is too short")
    return hash_


def goes_on(path, first, first_root, second, second_root):
    """RFC 9162 section 2.1.4.2."""
    if first > second or first == 0:
        return False
    if first == second:
        return not path and first_root == second_root
    at, last, rest = first - 1, second - 1, list(path)
    while at % 2 == 1:
        at, last = at // 2, last // 2
    if first & (first - 1) == 0:
        old = new = first_root
    elif rest:
        old = new = rest.pop(0)
    else:
        return False
    for sibling in rest:
        if last == 0:
            return False
        if at % 2 == 1 or at == last:
            old, new = node_hash(sibling, old), node_hash(sibling, new)
            while at % 2 == 0 and at != 0:
                at, last = at // 2, last // 2
        else:
            new = node_hash(new, sibling)
        at, last = at // 2, last // 2
    return last == 0 and old == first_root and new == second_root


def check_journal(records_file, note_file, key_file):
    with open(note_file, encoding="utf-8") as file:
        _, size, root = open_note(file.read(), key_file)
    with open(records_file, "rb") as file:
        lines = file.read().split(b"\n")[:-1]
    if len(lines) != size:
        raise Finding(f"there are {len(lines)} records, the checkpoint covers {size}")
    for place, line in enumerate(lines):
        if json.loads(line).get("index") != place:
            raise Finding(f"record {place} is out of place")
    if root_of([leaf_hash(line) for line in lines]) != root:
        raise Finding("the records are not those that were signed")
    return f"{size} records are those that the checkpoint signs"


def check_proofs(proof_file, key_file):
    with open(proof_file, encoding="utf-8") as file:
        proofs = json.load(file)["proofs"]
    if not proofs:
        raise Finding("there is no proof in the file")
    for proof in proofs:
        path = [base64.b64decode(text) for text in proof["path"]]
        origin, size, root = open_note(proof["checkpoint"], key_file)
        if proof["kind"] == "inclusion":
            if root_by(path, proof["index"], size, leaf_hash(proof["leaf"].encode())) != root:
                raise Finding("the record is not in the journal of this checkpoint")
        elif proof["kind"] == "consistency":
            before, earlier_size, earlier_root = open_note(proof["earlier"], key_file)
            if before != origin or not goes_on(path, earlier_size, earlier_root, size, root):
                raise Finding("the later journal does not begin with the earlier one")
        else:
            raise Finding("an unknown kind of proof")
    return f"{len(proofs)} proofs hold"


def main(arguments):
    if len(arguments) == 4 and arguments[0] == "journal":
        check = check_journal
    elif len(arguments) == 3 and arguments[0] == "proof":
        check = check_proofs
    else:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        print(check(*arguments[1:]))
        return 0
    except Finding as finding:
        print(f"NOT SOUND: {finding}")
    except (OSError, ValueError, KeyError, TypeError) as fault:
        print(f"NOT SOUND: it does not decode: {fault}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
