"""Whose word counts in a vault, now: the newest generation of its keys, and what the earlier ones said before it."""

from __future__ import annotations

from typing import Any

from muster.errors import IntegrityError, KeysRotated, MusterError, WrongKey
from muster.ports import BlobStore
from muster.vault.envelope import SigningKey
from muster.vault.generations import Chain, Generation, read_chain
from muster.vault.layout import GENERATIONS, digest
from muster.vault.rolls import Rolls


class Authority:
    """
    The `Signatures` of a vault over all generations of its keys.

    What the newest key signed counts. What an earlier one signed counts if a roll of the newest generation names it.

    :param signer: of the generation whose key opened the vault; if that is not the newest, the vault can only be read
    :param own: that generation
    """

    def __init__(self, store: BlobStore, chain: Chain, signer: SigningKey, own: Generation) -> None:
        self._store, self.chain, self._signer, self.own = store, chain, signer, own
        self._rolls = Rolls(store, chain.newest)
        self._lost = 0

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the public key that signs now."""
        return self.chain.newest.key.fingerprint

    @property
    def barred(self) -> MusterError | None:
        """Why nothing is signed: the vault was opened with a key of an earlier generation than there is, or was. None if something is."""
        newest = self.chain.newest
        if self._lost:
            return IntegrityError(
                f"the object that tells of generation {self._lost} of the keys of {self._store.url} is gone or damaged: what is written "
                "without it would not count when it is back, and could be read by whoever was left out of it",
                f"put back {GENERATIONS}: `muster heal --from` a replica",
            )
        if self.own.number < newest.number:
            return WrongKey(
                f"the keys of the vault in {self._store.url} were rotated at {newest.at:%Y-%m-%d %H:%M:%SZ} by "
                f"{newest.actor.name}@{newest.actor.host}; the key that opened it reads what was stored before, and signs nothing",
                "open it with a key of the new generation, or let one of its holders add yours with `muster keys add`",
            )
        return None

    def lost(self, generation: int) -> None:
        """There was a later generation, by which the vault was written to, and its object is gone: nothing is signed without it."""
        self._lost = generation

    @property
    def signer(self) -> SigningKey:
        """
        The key that signs now.

        :raises WrongKey: if the vault was opened with a key of an earlier generation
        :raises IntegrityError: if the newest one is gone
        """
        self._refuse_if_barred()
        return self._signer

    def sign(self, payload_type: str, payload: dict[str, Any]) -> bytes:
        """
        See `Signatures.sign`.

        :raises WrongKey: if the vault was opened with a key of an earlier generation
        """
        return self.signer.sign(payload_type, payload)

    def open(self, key: str, data: bytes, payload_type: str | None) -> dict[str, Any]:
        """
        See `Signatures.open`.

        :raises IntegrityError: also if an earlier key signed it, and no roll names it
        """
        generation, payload = self._opened(key, data, payload_type)
        if generation is self.chain.newest or self._rolls.name(digest(data)):
            return payload
        raise IntegrityError(
            f"{key} was signed with the key of generation {generation.number}, which was replaced, and is not on the roll of what was "
            "there then",
            "if it was written while the keys were rotated, see `muster keys adopt`; if not, somebody has the earlier key: do not use it",
        )

    def signed(self, key: str, data: bytes) -> bool:
        """Whether any key that the vault has or had signed a document, whether it counts or not."""
        try:
            self._opened(key, data, None)
        except IntegrityError:
            return False
        return True

    def signed_by(self, key: str, data: bytes) -> Generation:
        """
        The generation whose key signed a document, whether it counts or not.

        :raises IntegrityError: if none did
        """
        return self._opened(key, data, None)[0]

    def counts(self, name: str) -> bool:
        """Whether a roll names an object by its digest."""
        return self._rolls.name(name)

    def rolled(self) -> frozenset[bytes]:
        """All digests on the rolls that there are now."""
        return self._rolls.all()

    def unknown_keys(self) -> dict[bytes, int]:
        """Ids of the master keys that came after the one that opened the vault, and the numbers of their generations."""
        return {later.key_id: later.number for later in self.chain.generations[self.own.number + 1 :]}

    def confirm(self) -> None:
        """
        Make sure that what was just signed was signed before any rotation, so that its roll names it.

        :raises KeysRotated: if the keys were rotated since the vault was opened
        :raises WrongKey: if they were rotated before, and it was opened with a key that was left out
        """
        self._refuse_if_barred()
        there = {info.key for info in self._store.list(GENERATIONS)}
        if self.chain.free not in there:
            return
        now = read_chain(self._store, self.chain.generations[0])
        if now.newest.number > self.chain.newest.number:
            raise KeysRotated(
                f"the keys of the vault in {self._store.url} were rotated by {now.newest.actor.name}@{now.newest.actor.host} while it "
                "was open, so what was just signed may not count",
                "open it again, with a key of the new generation, and do it once more",
            )
        self.chain = now

    def _refuse_if_barred(self) -> None:
        if barred := self.barred:
            raise barred

    def _opened(self, key: str, data: bytes, payload_type: str | None) -> tuple[Generation, dict[str, Any]]:
        failure: IntegrityError | None = None
        for generation in reversed(self.chain.generations):
            try:
                return generation, generation.key.open(key, data, payload_type)
            except IntegrityError as error:
                failure = failure or error
        raise failure or AssertionError
