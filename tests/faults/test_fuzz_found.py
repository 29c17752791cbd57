"""What was found by feeding readers at random, each by its name, so that no chance is needed to find it again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fakes import FrozenClock, MemoryStore
from faults.fuzzing import nested, raw_json, signed
from faults.snapshots import FILES, contents, examined, plain_vault, point_id, take
from muster.codec import canonical, from_json, to_json
from muster.domain.content import ContentRef
from muster.domain.recovery_point import Mark, PointStatus, RecoveryPoint, listed
from muster.errors import IntegrityError
from muster.vault.audit import PAYLOAD_TYPE as AUDIT_TYPE
from muster.vault.keys import MasterKey
from muster.vault.layout import DEEPEST, digest, mark_key, point_key, read_document, slot_object
from muster.vault.points import MARK_TYPE
from muster.vault.slots import SlotMaker
from muster.vault.vault import Vault
from vaults import make_vault, reopen

TIMES = ("2026-11-23T02:00:00", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-11-23")
NO_LISTS = (5, True, {"a": 1}, [["a"]], [None], "text")


@pytest.fixture
def vault() -> Vault:
    """With one point."""
    made, _ = make_vault(MemoryStore())
    take(made, FILES)
    return made


def document_of(vault: Vault, at: Any = "2026-11-23T03:00:00Z", **said: Any) -> dict[str, Any]:
    """What a mark says."""
    mark = {
        "at": at,
        "kind": "held",
        "point": point_id(0),
        "report": None,
        "summary": {},
        "workload": "flights",
        **said,
    }
    return {"mark": mark, "vault": vault.id}


def put_mark(vault: Vault, payload: bytes, kind: str = "held") -> str:
    """Store what is signed as a mark, where a mark of that kind lies."""
    key = mark_key(point_id(0), kind, FrozenClock().now().replace(hour=3), 0)
    vault._store.put(key, signed(vault._authority.signer, MARK_TYPE, payload))
    return key


@pytest.mark.parametrize("at", TIMES)
def test_a_slot_by_anybody_with_an_odd_time_keeps_nobody_out_and_stops_no_snapshot(vault: Vault, at: str) -> None:
    """No key is needed to write one: a time without a zone cannot be sorted among others."""
    data = SlotMaker(MasterKey.generate(), vault.id, at).recovery("odd", _public())
    vault._store.put(slot_object(digest(data)), data)
    assert len(reopen(vault._store).holders.all()) == 2
    take(reopen(vault._store), FILES, 1)
    vault.rotate(vault.rotation.plan((), ()))


def _public() -> Any:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.generate().public_key()


@pytest.mark.parametrize("at", TIMES)
def test_a_signed_mark_with_an_odd_time_is_damaged(vault: Vault, at: str) -> None:
    """It is named by a verification; other marks are sorted all the same."""
    key = put_mark(vault, canonical(document_of(vault, at)))
    with pytest.raises(IntegrityError, match="at of a stored Mark"):
        vault.points()
    assert [finding.object for finding in vault.verify().findings] == [key]


@pytest.mark.parametrize("point", ["", "a/b", "..", "ü", "x" * 200])
def test_signed_documents_of_points_that_can_have_no_name_are_misplaced(vault: Vault, point: str) -> None:
    """They are damage, of which a verification tells; not a mistake of whoever looks."""
    key = put_mark(vault, canonical(document_of(vault, point=point)))
    odd = replace(_point(vault), point=point)
    sealed = point_key("flights", point_id(9))
    statement = {"predicateType": "urn:muster:recovery-point:1", "predicate": to_json(odd), "audit_head": "x"}
    vault._store.put(sealed, vault._authority.sign("application/vnd.in-toto+json", statement))
    assert {key, sealed} <= {finding.object for finding in vault.verify().findings}


def _point(vault: Vault) -> RecoveryPoint:
    return vault.readable_points()[0].point


@pytest.mark.parametrize("value", NO_LISTS)
@pytest.mark.parametrize(
    ("kind", "name"), [("suspect", "damaged_packs"), ("verified", "answers"), ("released", "holds")]
)
def test_a_signed_mark_may_list_what_is_no_list(vault: Vault, kind: str, name: str, value: Any) -> None:
    """Points are listed, snapshots taken and packs swept as with one that lists nothing that is there."""
    put_mark(vault, canonical(document_of(vault, kind=kind, summary={name: value, "cause": "verification"})), kind)
    (status,) = vault.points()
    assert (status.suspect, status.holds, bool(status.damage)) == (kind == "suspect", (), kind == "suspect")
    take(reopen(vault._store), {"other": b"other"}, 1)


@pytest.mark.parametrize("value", [5, True, {"a": 1}, "text", [0]])
def test_whatever_stands_as_failures_of_a_check_speaks_against_the_point(vault: Vault, value: Any) -> None:
    """What is no list is not passed over: a failed point does not become a good one."""
    point = _point(vault)
    check = replace(point.components[0], kind="validation", details={"failures": value})
    assert PointStatus(replace(point, components=(check,)), ()).suspect
    assert listed({"failures": []}, "failures") == listed({}, "failures") == ()


@pytest.mark.parametrize("details", [{"proven": 5}, {"proven": [["a"]]}, {"sha256": []}, {"sha256": "zz"}])
def test_a_signed_record_may_tell_anything(vault: Vault, details: dict[str, Any]) -> None:
    """Holders are listed, and the keys are rotated."""
    for action in ("keys.test", "keys.add", "seal", "mark"):
        vault.record(action, "odd", "ok", details)
    assert len(vault.holders.all()) == 2
    vault.rotate(vault.rotation.plan((), ()))
    assert contents(reopen(vault._store), _point(reopen(vault._store))) == FILES


def test_a_signed_record_that_follows_what_is_no_digest_is_on_no_roll(vault: Vault) -> None:
    """Its parents would be put on the roll of the next rotation."""
    record = {
        "actor": {"host": "", "name": "", "via": ""}, "at": "2026-11-23T03:00:00Z", "before": 1, "outcome": "", "seq": 9,
        "action": "x", "details": {}, "parents": ["zz", "00"], "subject": "", "vault": vault.id,
    }  # fmt: skip
    data = vault._authority.sign(AUDIT_TYPE, record)
    vault._store.put(f"audit/00000009-{digest(data)}.json", data)
    vault.rotate(vault.rotation.plan((), ()))
    assert contents(reopen(vault._store), _point(reopen(vault._store))) == FILES


@pytest.mark.parametrize(
    "payload",
    [b"5", b"[]", b'[["mark",1]]', b"null", b'{"mark":NaN}', b'{"mark": 1}', b'{"a":1,"a":2}', b'{"a":"\\ud800"}'],
)
def test_a_signed_payload_that_is_not_as_we_write_it_is_damaged(vault: Vault, payload: bytes) -> None:
    """No object, not canonical, or what no text holds."""
    put_mark(vault, payload)
    with pytest.raises(IntegrityError, match="the payload of"):
        vault.points()


def test_a_document_that_is_nested_too_deep_is_damaged(vault: Vault) -> None:
    """Python could just read it, and whoever has used more of the stack by then could not write it."""
    read_document("x", canonical({"a": nested(DEEPEST - 2)}))
    for depth in (DEEPEST, 300, 900, 100_000):
        deep = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        with pytest.raises(IntegrityError):
            read_document("x", deep)
    put_mark(vault, raw_json(document_of(vault, summary={"deep": nested(900)})))
    with pytest.raises(IntegrityError, match="not as it was written"):
        vault.points()


@pytest.mark.parametrize("change", [lambda one: [one, one], lambda one: [{**one, "more": 1}], lambda one: []])
def test_an_envelope_has_one_signature_and_nothing_beside_it(change: Callable[[Any], list[Any]]) -> None:
    """Or anybody could make another object of a manifest that still counts."""
    store = plain_vault()
    (key,) = [name for name in store.objects if name.startswith("points/")]
    envelope = json.loads(store.objects[key])
    envelope["signatures"] = change(envelope["signatures"][0])
    store.objects[key] = canonical(envelope)
    found, restored = examined(store, 0)
    assert any(line.startswith(f"{key}: {key} does not carry") for line in found)
    assert isinstance(restored, IntegrityError)


@pytest.mark.parametrize("value", ["5", 5.0, True, "9" * 40])
def test_a_number_is_a_number(value: Any) -> None:
    """Not a text, a fraction or a truth from which one could be made, of any length."""
    whole = {"chunks": [], "sha256": "0" * 64, "size": 5}
    assert from_json(ContentRef, whole).size == 5
    with pytest.raises(IntegrityError, match="size of a stored ContentRef"):
        from_json(ContentRef, {**whole, "size": value})


def test_marks_of_all_kinds_are_read_as_they_were_written(vault: Vault) -> None:
    """So that what is refused above is not all there is."""
    vault.mark(Mark("flights", point_id(0), "held", FrozenClock().now(), {"deep": nested(20)}))
    assert vault.points()[0].holds
    assert vault.verify().ok
