"""
A reader of vault format 1, written from docs/format.md alone: ``python minimal_reader.py VAULT POINT TO``, the key in ``MUSTER_KEY``.

Needs the packages cryptography, blake3 and zstandard, and nothing of Muster. It restores the files of every component of a
point into ``TO/<kind>/<name>/``, checks everything on the way, and stops at the first thing that is wrong.
"""

import base64
import contextlib
import hashlib
import json
import os
import sys
import unicodedata
from pathlib import Path

import zstandard
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

ROW = 45


def hkdf(key, info, salt=None):
    return HKDF(SHA256(), 32, salt, info).derive(key)


def canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def unhex(slot, name):
    return bytes.fromhex(slot[name])


# --- keys: sections 3 and 4 -------------------------------------------------------------------------------------------


def wrapping_key(slot, secret):
    if slot["kind"] == "passphrase":
        words, cost = unicodedata.normalize("NFKC", secret).encode(), slot["scrypt"]
        n, r, p = cost["n"], cost["r"], cost["p"]
        return hashlib.scrypt(words, salt=unhex(cost, "salt"), n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)
    letters = secret.upper().replace("-", "").replace(" ", "").removeprefix("MUSTERRECOVERY1")
    private, checksum = base64.b32decode(letters)[:32], base64.b32decode(letters)[32:]
    assert hashlib.sha256(b"muster recovery key v1" + private).digest()[:3] == checksum, "the recovery key is mistyped"
    shared = X25519PrivateKey.from_private_bytes(private).exchange(
        X25519PublicKey.from_public_bytes(unhex(slot, "ephemeral"))
    )
    return hkdf(shared, b"muster recovery slot v1", unhex(slot, "ephemeral") + unhex(slot, "public"))


def unsealed(key, info, vault_id, box, bound):
    return AESGCM(hkdf(key, info, vault_id)).decrypt(unhex(box, "nonce"), unhex(box, "sealed"), canonical(bound))


def open_vault(vault, secret):
    """The master keys and the public signing documents of all generations, the first first."""
    kind, found = "recovery" if secret.upper().startswith("MUSTER-RECOVERY-1-") else "passphrase", {}
    for path in sorted((vault / "keys").iterdir()):
        assert hashlib.sha256(path.read_bytes()).hexdigest() + ".json" == path.name, f"{path} is damaged"
        slot = json.loads(path.read_bytes())
        if slot["kind"] == kind:
            wrapped = bytes.fromhex(slot.pop("wrapped"))
            with contextlib.suppress(InvalidTag):  # another holder's slot
                key = AESGCM(wrapping_key(slot, secret)).decrypt(unhex(slot, "nonce"), wrapped, canonical(slot))
                found[slot.get("generation", 0)] = key
    chain = [json.loads((vault / "vault.json").read_bytes())]
    assert chain[0]["format"] == 1, "another format"
    for path in sorted((vault / "generations").glob("*.json")):
        with contextlib.suppress(InvalidSignature, ValueError, KeyError):  # it does not continue the chain
            chain.append(signed(path, chain[-1:])[1])
    masters, vault_id = [found[max(found)]], unhex(chain[0], "id")
    if generation := max(found):
        box = chain[generation].pop("sealed")
        keys = json.loads(unsealed(masters[0], b"muster generation v1", vault_id, box, chain[generation]))
        masters = [*map(bytes.fromhex, keys["master_keys"]), *masters]
    box = chain[0].pop("sealed_signing_key")
    private = unsealed(masters[0], b"muster signing key v1", vault_id, box, chain[0])
    public = Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    assert public.hex() == chain[0]["signing_key"]["public"]
    return masters, chain


# --- signed documents: sections 9 and 10 ------------------------------------------------------------------------------


def signed(path, chain):
    """Which of these generations signed a document, and what it says."""
    envelope = json.loads(path.read_bytes())
    kind, payload = envelope["payloadType"].encode(), base64.b64decode(envelope["payload"])
    text = b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)
    for number, generation in enumerate(chain):
        public = Ed25519PublicKey.from_public_bytes(unhex(generation["signing_key"], "public"))
        with contextlib.suppress(InvalidSignature):
            public.verify(base64.b64decode(envelope["signatures"][0]["sig"]), text)
            return number, json.loads(payload)
    raise InvalidSignature(path)


def manifest(vault, chain, point):
    (path,) = (vault / "points").glob(f"*/{point}.json")
    number, statement = signed(path, chain)
    if number < len(chain) - 1:
        rolls = [signed(roll, chain[-1:])[1] for roll in (vault / "rolls").glob(f"{len(chain) - 1:04d}-*.json")]
        digests = b"".join(base64.b64decode(roll["digests"]) for roll in rolls)
        name = hashlib.sha256(path.read_bytes()).digest()
        assert any(digests[at : at + 32] == name for at in range(0, len(digests), 32)), "signed after a rotation"
    found = statement["predicate"]
    assert (found["vault"], found["point"], found["workload"]) == (chain[0]["id"], point, path.parent.name)
    return found


# --- content: sections 5 to 8 -----------------------------------------------------------------------------------------


def directories(vault, masters, chain):
    """Chunk id to (pack, its key, ordinal, row), from the packs themselves: indexes are only a cache."""
    places, not_ours = {}, [generation["key_id"] for generation in chain[len(masters) :]]
    for path in sorted((vault / "packs").glob("*/*")):
        data = path.read_bytes()
        assert hashlib.sha256(data).hexdigest() == path.name, f"{path} is damaged"
        assert data[:8] == b"MUSTERP\x01"
        assert data[-8:] == b"MUSTERD\x01"
        if data[8:16].hex() in not_ours:  # stored after a rotation that left us out
            continue
        newer = [one for one in masters[1:] if hkdf(one, b"muster key id v1")[:8] == data[8:16]]
        cipher = AESGCM(hkdf((*newer, masters[0])[0], b"muster pack v1", data[8:40]))
        length = int.from_bytes(data[-16:-12], "big")
        rows = cipher.decrypt(b"\xff" * 12, data[-16 - length : -16], data[:40] + data[-16:])
        for ordinal in range(int.from_bytes(data[-12:-8], "big")):
            row = rows[ordinal * ROW : (ordinal + 1) * ROW]
            places[row[:32]] = (path, cipher, ordinal, row)
    return places


def read_chunk(places, chunk_key, chunk):
    path, cipher, ordinal, row = places[chunk]
    offset, length, size = (int.from_bytes(row[at : at + 4], "big") for at in (32, 36, 40))
    with path.open("rb") as pack:
        pack.seek(offset)
        plain = cipher.decrypt(ordinal.to_bytes(12, "big"), pack.read(length), row)
    if row[44] & 1:
        plain = zstandard.decompress(plain)
    assert len(plain) == size
    assert blake3(plain, key=chunk_key).digest() == chunk
    return plain


def restore(vault, secret, point, to):
    masters, chain = open_vault(vault, secret)
    places, chunk_key = directories(vault, masters, chain), hkdf(masters[0], b"muster chunk id v1")

    def content(reference):
        plain = b"".join(read_chunk(places, chunk_key, bytes.fromhex(chunk)) for chunk in reference["chunks"])
        assert (len(plain), hashlib.sha256(plain).hexdigest()) == (reference["size"], reference["sha256"])
        return plain

    for component in manifest(vault, chain, point)["components"]:
        folder = to / component["kind"] / component["name"]
        root = component["tree"]["root"]
        if component["tree"].get("paged"):
            table = b"".join(read_chunk(places, chunk_key, bytes.fromhex(chunk)) for chunk in root["chunks"])
            root = root | {"chunks": [table[at : at + 32].hex() for at in range(0, len(table), 32)]}
        entries = [json.loads(line) for line in content(root).split(b"\n") if line]
        assert len(entries) == component["tree"]["entries"]
        for entry in sorted(entries, key=lambda entry: ("dir", "file", "link").index(entry["kind"])):
            path = folder / entry["path"]
            assert ".." not in path.parts
            path.parent.mkdir(parents=True, exist_ok=True)
            if entry["kind"] == "dir":
                path.mkdir(exist_ok=True)
            elif entry["kind"] == "link":
                path.symlink_to(entry["link"])
            else:
                path.write_bytes(content(entry["content"]))
                path.chmod(entry.get("mode", 0o644))
                os.utime(path, ns=(entry.get("mtime_ns", 0),) * 2)


if __name__ == "__main__":
    restore(Path(sys.argv[1]), os.environ["MUSTER_KEY"], sys.argv[2], Path(sys.argv[3]))
