"""What a lock may say, and where its mistakes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from environments import MODEL_LOCK
from muster.adapters.requirement_lock import parse_lock, read_lock
from muster.errors import SourceInvalid

A, B = "a" * 64, "b" * 64


def parsed(text: str) -> tuple[object, ...]:
    return parse_lock(text.encode(), "the.lock").requirements


def test_reads_the_lock_of_the_models() -> None:
    """Every pin of a lock that uv wrote is read, with its hashes."""
    lock = read_lock(MODEL_LOCK)
    lines = [line for line in MODEL_LOCK.read_text().splitlines() if "==" in line and not line.startswith("#")]
    assert len(lock.requirements) == len(lines)
    assert sum(len(r.hashes) for r in lock.requirements) == MODEL_LOCK.read_text().count("--hash=sha256:")
    assert {r.name for r in lock.requirements} >= {"mlflow-skinny", "scikit-learn", "skops", "pandas", "numpy"}


def test_joins_lines_and_ignores_comments_and_index_options() -> None:
    """Continuations, comments, extras, markers and index options are read as pip reads them."""
    text = (
        "# made by hand\n--index-url https://user:secret@example.org/simple\n"
        f"Foo.Bar[extra]==1.0.0 ; sys_platform == 'win32' \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B.upper()}\n"
        f"    # via nothing\nbaz==2 --hash=sha512:{A}{A} --hash=sha256:{B}  # because\n"
    )
    lock = parse_lock(text.encode(), "the.lock")
    first, second = lock.requirements
    assert (first.name, first.version, first.hashes, first.line) == ("foo-bar", "1.0.0", (A, B), 3)
    assert first.key == "foo-bar==1"
    assert (second.pin, second.hashes, second.line) == ("baz==2", (B,), 7)
    assert lock.needed({"sys_platform": "linux"}) == (second,)
    assert lock.needed({"sys_platform": "win32"}) == (first, second)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("six==1.17.0\n", 1, "six==1.17.0 has no SHA-256"),
        (f"six==1.17.0 --hash=md5:{A}\n", 1, "has no SHA-256"),
        ("six==1.17.0 --hash=sha256:abc\n", 1, "has no SHA-256"),
        (f"# one\n\nsix>=1.17.0 \\\n --hash=sha256:{A}\n", 3, "'six>=1.17.0' is not pinned"),
        (f"six @ https://example.org/six.whl --hash=sha256:{A}\n", 1, "is not pinned"),
        (f"six==1 --hash=sha256:{A}\n-r other.txt\n", 2, "-r does not belong in a lock"),
        ("-e .\n", 1, "-e does not belong in a lock"),
        (f"six==1 ; nonsense --hash=sha256:{A}\n", 1, "is no environment marker"),
    ],
)
def test_names_file_and_line_of_a_mistake(text: str, line: int, says: str) -> None:
    """Whatever is not an exact, hashed pin is refused with the file and the line."""
    with pytest.raises(SourceInvalid, match=f"the.lock, line {line}: ") as caught:
        parsed(text)
    assert says in caught.value.message


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff\xfe"])
def test_refuses_what_locks_nothing(content: bytes) -> None:
    """An empty or unreadable lock is no environment."""
    with pytest.raises(SourceInvalid):
        parse_lock(content, "the.lock")


def test_refuses_a_lock_that_is_not_there(tmp_path: Path) -> None:
    """A missing lock is named."""
    with pytest.raises(SourceInvalid, match=r"nowhere\.lock cannot be read"):
        read_lock(tmp_path / "nowhere.lock")
