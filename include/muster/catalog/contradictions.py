"""What a workload may not say although every single field of it is right: pure checks that give their reasons."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from fnmatch import fnmatchcase

from muster.catalog.durations import format_duration
from muster.catalog.model import CutOver, Registry, Retention, TargetRegistry, VaultConfig, Workload
from muster.catalog.schedule import largest_gap
from muster.catalog.source import Location

Found = Iterator[tuple[Location, str]]
_OF_A_STORE = ("store", "artifacts", "auth_store", "server_keys")
KEPT_DAYS = {"daily": 1, "weekly": 7, "monthly": 31, "yearly": 366}


def contradictions(workload: Workload, vaults: Mapping[str, VaultConfig]) -> list[tuple[Location, str]]:
    """All contradictions of a workload: the field that would have to change, and why."""
    checks: tuple[Callable[[], Found], ...] = (
        lambda: _components(workload),
        lambda: _registries(workload),
        lambda: _scope(workload.registry),
        lambda: _objectives(workload),
        lambda: _vaults(workload, vaults),
        lambda: _residency(workload, vaults),
        lambda: _target_jurisdictions(workload),
        lambda: _webhook(workload),
        lambda: _retention(workload.retention),
        lambda: _anomaly(workload),
        lambda: _canary(workload),
        lambda: _cut_over(workload),
        lambda: _smoke(workload),
        lambda: _targets(workload),
    )
    return [found for check in checks for found in check()]


def contradictions_of_vaults(vaults: Mapping[str, VaultConfig]) -> list[tuple[Location, str]]:
    """The same for ``vaults.yaml``."""
    return [found for name, vault in vaults.items() for found in _anchors(name, vault, vaults)]


def did_you_mean(name: str, known: list[str]) -> str:
    """``did you mean X?`` and the list of what there is, for a message about an unknown name."""
    close = difflib.get_close_matches(name, known, n=1)
    listed = f"known are: {', '.join(sorted(known)) or 'none'}"
    return f"did you mean {close[0]}? {listed}" if close else listed


def _components(workload: Workload) -> Found:
    if not (workload.datasets or workload.registry or workload.environment or workload.configuration):
        yield (), "protects nothing; give it datasets, a registry, an environment or a configuration"
    seen: set[str] = set()
    for index, dataset in enumerate(workload.datasets):
        if dataset.name in seen:
            yield ("datasets", index, "name"), f"there are two datasets {dataset.name}; give each its own name"
        seen.add(dataset.name)
    configuration = workload.configuration
    if configuration and not (configuration.files or configuration.env or configuration.secrets):
        yield ("configuration",), "holds nothing; give it files, env or secrets, or leave it out"


def _registries(workload: Workload) -> Found:
    places: list[tuple[Location, Registry | TargetRegistry | None]] = [(("registry",), workload.registry)]
    places += [(("targets", name, "registry"), target.registry) for name, target in workload.targets.items()]
    for at, registry in places:
        if registry is None:
            continue
        if registry.server:
            named = [key for key in _OF_A_STORE if getattr(registry, key, None)]
            yield from (((*at, key), "means a store, and there is a server; give one of the two") for key in named)
            continue
        missing = [key for key in ("store", "artifacts") if not getattr(registry, key)]
        yield from (((*at, key), "is missing; it must be given, unless there is a server") for key in missing)
        if registry.token:
            yield (*at, "token"), "is for a server, and there is none; leave it out"


def _scope(registry: Registry | None) -> Found:
    if registry is None or registry.scope == "store":
        return
    at: Location = ("registry", "scope")
    if registry.server:
        yield at, "takes models out of a store, and there is a server; leave it out"
    if registry.auth_store:
        yield (
            at,
            "takes models alone, and users belong to the store as a whole; drop auth_store, or take the store whole",
        )
    if "*" in registry.models:
        yield (
            at,
            "takes models alone, and registry.models names all of them; name those that are meant, or leave it out",
        )


def _objectives(workload: Workload) -> Found:
    if workload.schedule is None:
        return
    gap, rpo = largest_gap(workload.schedule), workload.objectives.rpo
    if rpo < gap:
        reason = f"is shorter than the schedule allows: {workload.schedule!r} leaves up to {format_duration(gap)} between two points"
        mend = f"take points more often, or promise {format_duration(gap)}"
        yield ("objectives", "rpo"), f"{format_duration(rpo)} {reason}; {mend}"


def _vaults(workload: Workload, vaults: Mapping[str, VaultConfig]) -> Found:
    known = list(vaults)
    if workload.vault not in vaults:
        yield ("vault",), f"there is no vault {workload.vault} in vaults.yaml; {did_you_mean(workload.vault, known)}"
    for index, useless in _useless(workload.replicas, workload.vault, vaults):
        yield (
            ("replicas", index),
            useless or f"the vault {workload.replicas[index]} holds the points already; name another, or leave it out",
        )


def _anchors(name: str, vault: VaultConfig, vaults: Mapping[str, VaultConfig]) -> Found:
    for index, useless in _useless(vault.anchored_in, name, vaults):
        nothing_more = f"{vault.anchored_in[index]} proves nothing more of {name}; name another vault, or leave it out"
        yield ("vaults", name, "anchored_in", index), useless or nothing_more


def _useless(names: Sequence[str], own: str, vaults: Mapping[str, VaultConfig]) -> Iterator[tuple[int, str]]:
    """The vaults of a list that are not in the catalog, and why; and with no reason those that stand there already, or are the own."""
    for index, name in enumerate(names):
        if name not in vaults:
            yield index, f"there is no vault {name} in vaults.yaml; {did_you_mean(name, list(vaults))}"
        elif name == own or name in names[:index]:
            yield index, ""


def _residency(workload: Workload, vaults: Mapping[str, VaultConfig]) -> Found:
    if workload.residency is None:
        return
    allowed = workload.residency.allow
    places: list[tuple[Location, str]] = [(("vault",), workload.vault)]
    places += [(("replicas", index), replica) for index, replica in enumerate(workload.replicas)]
    for location, name in places:
        if name not in vaults:
            continue
        jurisdiction, only = vaults[name].jurisdiction, f"residency allows only {_list(allowed)}"
        if jurisdiction is None:
            yield location, f"the vault {name} has no jurisdiction in vaults.yaml, but {only}; say there where it lies"
        elif jurisdiction not in allowed:
            mend = f"choose another vault, or have {jurisdiction} allowed"
            yield location, f"the vault {name} lies in {jurisdiction}, but {only}; {mend}"


def _target_jurisdictions(workload: Workload) -> Found:
    """Of a target that does not say where it lies, the plan of a restore is refused."""
    allowed = workload.residency.allow if workload.residency else None
    for name, target in workload.targets.items():
        if allowed is not None and target.jurisdiction is not None and target.jurisdiction not in allowed:
            yield ("targets", name), f"it lies in {target.jurisdiction}, but residency allows only {_list(allowed)}"


def _webhook(workload: Workload) -> Found:
    if workload.registry is None or workload.registry.webhook is None:
        return
    if workload.strategy != "hot":
        yield ("registry", "webhook"), f"starts nothing where the strategy is {workload.strategy}; set strategy: hot"
    if workload.schedule is None:
        yield (
            ("registry", "webhook"),
            "is not told of deletions, nor of what the server could not deliver; add a schedule for these",
        )


def _retention(retention: Retention | None) -> Found:
    if retention is None:
        return
    spans = [getattr(retention, kind) * timedelta(days=days) for kind, days in KEPT_DAYS.items()]
    kept = max([*spans, retention.hourly * timedelta(hours=1)])
    if not kept and not retention.last:
        yield ("retention",), "keeps no point at all; set last, hourly, daily, weekly, monthly or yearly"
    elif retention.lock and retention.lock > kept:
        reason = (
            f"is longer than anything is kept ({kept.days}d), so points could not be expired when retention says so"
        )
        mend = "shorten the lock, or keep points longer"
        yield ("retention", "lock"), f"{format_duration(retention.lock)} {reason}; {mend}"


def _anomaly(workload: Workload) -> Found:
    if "anomaly" not in workload.model_fields_set or workload.datasets or workload.registry:
        return
    yield ("anomaly",), "judges datasets and registries, and there are none; leave it out"


def _canary(workload: Workload) -> Found:
    canary, registry = workload.canary, workload.registry
    if canary is None:
        return
    if registry is None:
        yield ("canary",), "is written into the registry, and there is none; leave it out"
    elif registry.scope == "models":
        yield (
            ("canary",),
            "stands in an experiment of its own, which no model needs, and registry.scope takes models alone; leave it out",
        )
    every, rpo = canary.every, workload.objectives.rpo
    if every < timedelta(minutes=1):
        yield ("canary", "every"), f"{format_duration(every)} is shorter than a minute; that is as fine as it gets"
    elif every >= rpo:
        yield (
            ("canary", "every"),
            f"{format_duration(every)} is no shorter than objectives.rpo, {format_duration(rpo)}, so no figure of it could meet that",
        )


def _cut_over(workload: Workload) -> Found:
    steps: list[tuple[Location, CutOver | None]] = [(("cut_over",), workload.cut_over)]
    steps += [(("targets", name, "cut_over"), target.cut_over) for name, target in workload.targets.items()]
    for at, step in steps:
        if step and not (step.command or step.ready):
            yield at, "does nothing; give it command or ready, or leave it out"


def _smoke(workload: Workload) -> Found:
    if not workload.smoke:
        return
    for part in ("registry", "environment"):
        if getattr(workload, part) is None:
            yield (
                ("smoke",),
                f"a model can be asked only where registry and environment are protected; add {part}, or drop smoke",
            )
    if workload.registry and workload.registry.server:
        yield (
            ("smoke",),
            "models are asked through a server of our own over the registry's store; drop smoke, or name the store",
        )
    patterns = workload.registry.models if workload.registry else ("*",)
    for index, test in enumerate(workload.smoke):
        name = test.model.removeprefix("models:/").partition("@")[0].partition("/")[0]
        if not any(fnmatchcase(name, pattern) for pattern in patterns):
            yield ("smoke", index, "model"), f"registry.models ({_list(patterns)}) does not cover {name}; add it there"


def _targets(workload: Workload) -> Found:
    known = [dataset.name for dataset in workload.datasets]
    for name, target in workload.targets.items():
        at: Location = ("targets", name)
        places = bool(target.datasets or target.registry or target.environment or target.configuration)
        if name in ("origin", "latest"):
            yield at, f"the name {name} has a meaning of its own; choose another"
        if bool(target.directory) == places:
            yield (
                at,
                "needs either directory, or places for single components (datasets, registry, environment, configuration)",
            )
        for dataset in target.datasets:
            if dataset not in known:
                yield (
                    (*at, "datasets", dataset),
                    f"the workload has no dataset {dataset}; {did_you_mean(dataset, known)}",
                )


def _list(values: tuple[str, ...]) -> str:
    return ", ".join(values)
