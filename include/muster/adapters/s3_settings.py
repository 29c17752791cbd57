"""What the settings of an S3 bucket say of it. Servers that do not know a setting, and rights that do not show it, leave it untold."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from muster.adapters.bucket_proofs import lifted_by_nobody
from muster.adapters.s3_admin import S3Admin
from muster.errors import NotFound, Refused
from muster.ports import LockMode, Proof

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_EVERYBODY = ("/groups/global/AllUsers", "/groups/global/AuthenticatedUsers")


def settings_of(admin: S3Admin, mode: LockMode) -> Iterator[Proof]:
    """
    How locks are set, who is let in, what removes objects by itself.

    :param mode: of the retentions that the vault sets
    """
    if admin.facts().lockable:
        yield _lock_mode(admin, mode)
    yield _told("no policy of the bucket makes it public", lambda guarantee: _policy(admin, guarantee))
    yield _told("no access list of the bucket makes it public", lambda guarantee: _access_list(admin, guarantee))
    yield _told("nobody can make the bucket public", lambda guarantee: _block(admin, guarantee))
    yield _told("nothing but expiry removes objects", lambda guarantee: _lifecycle(admin, guarantee))


def _told(guarantee: str, look: Callable[[str], Proof]) -> Proof:
    try:
        return look(guarantee)
    except (Refused, NotFound) as error:
        return Proof(guarantee, "untold", error.message, error.hint)


def _lock_mode(admin: S3Admin, mode: LockMode) -> Proof:
    if mode == "compliance" and admin.facts().default_lock == "governance":
        return Proof(
            "nobody at all can lift a lock before its end",
            "broken",
            "the address asks for compliance, and every object is born under the bucket's default retention of mode governance",
            "make the default retention of the bucket compliance, or remove it",
        )
    return lifted_by_nobody(mode, "s3:BypassGovernanceRetention")


def _policy(admin: S3Admin, guarantee: str) -> Proof:
    asked = admin.ask("get_bucket_policy_status", "the policy status", none={"NoSuchBucketPolicy"})
    if asked is None:
        return Proof(guarantee, "kept", "it has no policy")
    if asked["PolicyStatus"]["IsPublic"]:
        return Proof(guarantee, "broken", "the server calls its policy public", "take Principal * out of the policy")
    return Proof(guarantee, "kept", "the server says that its policy is not public")


def _access_list(admin: S3Admin, guarantee: str) -> Proof:
    grants = admin.ask("get_bucket_acl", "the access list")["Grants"]
    public = [grant for grant in grants if str(grant["Grantee"].get("URI", "")).endswith(_EVERYBODY)]
    if public:
        uri, permission = public[0]["Grantee"]["URI"], public[0]["Permission"]
        return Proof(
            guarantee, "broken", f"its access list gives {permission} to {uri}", "make the access list private"
        )
    return Proof(guarantee, "kept", f"its {len(grants)} grants are to accounts")


def _block(admin: S3Admin, guarantee: str) -> Proof:
    asked = admin.ask(
        "get_public_access_block", "the block of public access", none={"NoSuchPublicAccessBlockConfiguration"}
    )
    block = (asked or {}).get("PublicAccessBlockConfiguration", {})
    missing = [name for name in _BLOCKS if not block.get(name)]
    if not missing:
        return Proof(guarantee, "kept", "public access is blocked, by all four settings")
    return Proof(guarantee, "absent", f"public access is not blocked: {', '.join(missing)}", "block all public access")


def _lifecycle(admin: S3Admin, guarantee: str) -> Proof:
    """A rule that expires current versions takes packs from under their points."""
    asked = (
        admin.ask("get_bucket_lifecycle_configuration", "the lifecycle", none={"NoSuchLifecycleConfiguration"}) or {}
    )
    rules = [rule for rule in asked.get("Rules", ()) if rule.get("Status") == "Enabled"]
    harmful = [
        str(rule.get("ID", "of no name")) for rule in rules if set(rule.get("Expiration", {})) & {"Days", "Date"}
    ]
    if harmful:
        return Proof(
            guarantee,
            "broken",
            f"the lifecycle rule {harmful[0]} of the bucket expires current objects",
            "limit the rule to noncurrent versions, or remove it",
        )
    return Proof(guarantee, "kept", "no lifecycle rule of the bucket expires current objects")
