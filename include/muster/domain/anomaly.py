"""
What looks like ransomware: a pure judge of how a component differs from the point before, and of how it used to differ.

Ransomware that reaches a dataset is backed up faithfully. What gives it away is what is lost: contents that were text or Parquet
yesterday are noise today, or another format, or are gone. What is merely added loses nothing and is never judged, nor is a content that
lies under another path now. Three shares of what the point before held are measured:

* spoiled    was replaced by noise. Very little is enough, and what nights before have spoiled counts, too
* converted  was replaced by contents of other formats
* shrunk     has no successor at all

Text, Parquet or images that are written anew as text, Parquet or images are none of these, however many they are. docs/adr/0017 says
why, and what an attacker can do who knows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from muster.domain.formats import CODED, NOISE

HISTORY = 30
"""How many points before are looked at."""
_USUAL = 3
_SPREADS = 6 * 1.4826
_MOST = 0.5
_FEW_FILES = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """
    From which share on a point is suspect, each above 0 and at most 1.

    :param spoiled: also in sum over the points before
    :param converted: unless that much is usual
    :param shrunk: unless that much is usual
    """

    spoiled: float = 0.01
    converted: float = 0.5
    shrunk: float = 0.5


@dataclass(frozen=True, slots=True)
class Profile:
    """
    How a component differs from the same one in the point before. Numbers only: it stands in the manifest, in the clear.

    :param files: of the component now; `size` in bytes; both `_before` likewise
    :param changed: paths with another content
    :param moved: those of the removed paths whose content lies elsewhere now
    :param lost: files whose content is nowhere any more, at the path of which it was; `lost_size` in bytes
    :param formats_lost: of a sample of lost contents, how many look like what (`muster.domain.formats`)
    :param formats_new: the same of new contents that took their places
    """

    files: int
    size: int
    files_before: int
    size_before: int
    added: int = 0
    added_size: int = 0
    changed: int = 0
    removed: int = 0
    removed_size: int = 0
    moved: int = 0
    lost: int = 0
    lost_size: int = 0
    formats_lost: Mapping[str, int] | None = None
    formats_new: Mapping[str, int] | None = None

    @property
    def spoiled(self) -> float:
        """The share of the point before that was replaced by noise; 0 unless most of what was replaced became noise."""
        before, after = _shares(self.formats_lost), _shares(self.formats_new)
        rise = sum(after.get(name, 0.0) - before.get(name, 0.0) for name in (NOISE, CODED))
        return self._lost_share * rise if rise >= _MOST else 0.0

    @property
    def converted(self) -> float:
        """The share of the point before that was replaced by other formats: how far the two samples' formats lie apart."""
        before, after = _shares(self.formats_lost), _shares(self.formats_new)
        return self._lost_share * sum(max(0.0, share - before.get(name, 0.0)) for name, share in after.items())

    @property
    def shrunk(self) -> float:
        """The share of the point before that is gone without successor, by files or by bytes."""
        if not self._counts(self.removed - self.added, self.removed_size - self.added_size):
            return 0.0
        return max(
            _share(self.removed - self.added, self.files_before),
            _share(self.removed_size - self.added_size, self.size_before),
        )

    @property
    def _lost_share(self) -> float:
        if not self._counts(self.lost, self.lost_size):
            return 0.0
        return max(_share(self.lost, self.files_before), _share(self.lost_size, self.size_before))

    def _counts(self, files: int, size: int) -> bool:
        """Whether so much is worth a word: a single file of many may become anything."""
        return files >= _FEW_FILES or size >= max(1.0, self.size_before * _MOST)


def judge(now: Profile, history: Sequence[Profile], limits: Limits) -> list[str]:
    """
    What speaks against a component, in sentences with the numbers; nothing if it may pass.

    :param history: profiles of the good points before, oldest first. Those of which a person has said that they changed for a good
        reason, and all that are older, are left out
    """
    recent = list(history)[-HISTORY:]
    spoiled = now.spoiled + sum(profile.spoiled for profile in recent)
    found = []
    if now.spoiled and spoiled >= limits.spoiled:
        since = "" if spoiled == now.spoiled else f", {_percent(spoiled)} in the last {len(recent) + 1} points"
        found.append(f"{_percent(now.spoiled)} became noise{since} ({_samples(now)})")
    elif _jumps(now, recent, lambda profile: profile.converted, limits.converted):
        found.append(f"{_percent(now.converted)} became other formats ({_samples(now)})")
    if _jumps(now, recent, lambda profile: profile.shrunk, limits.shrunk):
        found.append(f"{_percent(now.shrunk)} is gone ({now.removed} of {now.files_before} files, {now.added} came)")
    return found


def _jumps(now: Profile, history: Sequence[Profile], measure: Callable[[Profile], float], limit: float) -> bool:
    """
    Whether a measure reaches its limit, and is more than six standard deviations above what is usual.

    Usual are median and median absolute deviation (1.4826 of which are a standard deviation where things vary normally): a few wild
    nights do not move them. With fewer than three points nothing is usual yet.
    """
    value = measure(now)
    if value < limit:
        return False
    if len(history) < _USUAL:
        return True
    past = [measure(profile) for profile in history]
    middle = median(past)
    return value > middle + _SPREADS * median(abs(one - middle) for one in past)


def _samples(profile: Profile) -> str:
    return f"{profile.lost} files lost their content; looked at: before {_words(profile.formats_lost)}, now {_words(profile.formats_new)}"


def _words(formats: Mapping[str, int] | None) -> str:
    counts = sorted((formats or {}).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{count} {name}" for name, count in counts) or "nothing"


def _shares(formats: Mapping[str, int] | None) -> dict[str, float]:
    counts = formats or {}
    return {name: count / sum(counts.values()) for name, count in counts.items()}


def _share(part: int, whole: int) -> float:
    return min(1.0, max(0.0, part / whole)) if whole else 0.0


def _percent(share: float) -> str:
    return f"{share:.1%}"
