"""Places of artifacts, and the map of a restore."""

from __future__ import annotations

import pytest

from muster.adapters.mlflow_lines import in_batches
from muster.adapters.mlflow_location_map import LocationMap
from muster.adapters.mlflow_locations import Place, home_of, place_of, placed_values, root_place, roots_of
from muster.adapters.mlflow_rows import Column, Table
from muster.errors import IntegrityError, SourceInvalid

RUNS = Table("runs", (Column("run_uuid", "text", False), Column("artifact_uri", "text", True)), ("run_uuid",))
TRACE_TAGS = Table("trace_tags", tuple(Column(n, "text", True) for n in ("key", "value")), ("key",))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ("/data/ml//1/", Place("file", "/data/ml/1")),
        ("file:///data/a%20b", Place("file", "/data/a b")),
        ("file://localhost/data", Place("file", "/data")),
        ("file:/data", Place("file", "/data")),
        ("file:////data", Place("file", "/data")),
        ("file://server/data", None),
        ("s3://bucket/prefix/", Place("s3", "bucket/prefix")),
        ("s3://KEY:SE%2FCRET@bucket/prefix?endpoint=http://h:1", Place("s3", "bucket/prefix")),
        ("mlflow-artifacts:/1/r/artifacts", Place("proxied", "1/r/artifacts")),
        ("mlflow-artifacts://host:5000/1", Place("proxied", "1")),
        ("models:/m-1", None),
        ("runs:/r/model", None),
        ("dummy-source", None),
        ("s3://bucket/a@b/c", Place("s3", "bucket/a@b/c")),
        ("gs://bucket/prefix/", Place("gs", "bucket/prefix")),
        ("gs://%7B%22a%22%7D@bucket/prefix?endpoint=http://h:1", Place("gs", "bucket/prefix")),
        ("wasbs://c@acct.blob.core.windows.net/p/", Place("wasbs", "c@acct.blob.core.windows.net/p")),
        ("wasbs://c@acct.blob.core.usgovcloudapi.net", Place("wasbs", "c@acct.blob.core.usgovcloudapi.net")),
        ("wasbs://c@acct.blob.example.org/p", None),
        ("wasbs://c:KEY@acct.blob.core.windows.net/p", None),
        ("abfss://c@acct.dfs.core.windows.net/p", None),
        ("./mlruns", None),
        ("file:relative", None),
        ("mlflow-artifacts:/../../etc", None),
    ],
)
def test_places_are_told_by_their_spelling(value: str, place: Place | None) -> None:
    """Every way to write a place is known, and nothing else is taken for one."""
    assert place_of(value) == place


def test_credentials_are_in_no_place() -> None:
    """A root given with keys is kept without them."""
    assert "SECRET" not in repr(root_place("s3://KEY:SECRET@bucket/x?endpoint=http://h"))
    assert root_place("gs://SECRET@bucket/x?endpoint=http://h") == Place("gs", "bucket/x")
    assert root_place("azure://SECRET@acct/models/x y?endpoint=http://127.0.0.1:1/acct") == Place(
        "wasbs", "models@acct.blob.core.windows.net/x y"
    )


@pytest.mark.parametrize(
    ("root", "location"),
    [
        ("azure://acct/models", "wasbs://models@acct.blob.core.windows.net"),
        ("azure://acct/models/a/b/", "wasbs://models@acct.blob.core.windows.net/a/b"),
        (
            "azure://acct/models?endpoint=https://acct.blob.core.chinacloudapi.cn",
            "wasbs://models@acct.blob.core.chinacloudapi.cn",
        ),
    ],
)
def test_a_container_written_as_for_a_vault_is_where_mlflow_finds_it(root: str, location: str) -> None:
    """MLflow has a spelling of its own, and that is what the tables say."""
    assert root_place(root).location == location


def test_places_elsewhere_get_the_topmost_root() -> None:
    """Places below one another share a root; a sibling with the same beginning does not."""
    root, places = Place("file", "/ml"), [Place("file", p) for p in ("/ml/1", "/x/a/b", "/x/a", "/x/ab", "/ml2/1")]
    roots = roots_of(root, places)
    assert [r.place.path for r in roots] == ["/ml", "/ml2/1", "/x/a", "/x/ab"]
    assert home_of(Place("file", "/x/a/b"), roots) == (roots[2], "b")
    assert home_of(Place("proxied", "1/r"), roots) == (roots[0], "1/r")


def test_unknown_place_has_no_home() -> None:
    """What lies below no root is an error, not a guess."""
    with pytest.raises(SourceInvalid, match="no known artifact root"):
        home_of(Place("file", "/y"), roots_of(Place("file", "/ml"), []))


def between(old: str, new: str) -> LocationMap:
    return LocationMap.between(roots_of(root_place(old), []), root_place(new))


@pytest.mark.parametrize(
    ("old", "new", "value", "moved"),
    [
        ("/ml", "/new", "/ml/1/r", "/new/1/r"),
        ("/ml", "/new", "/ml", "/new"),
        ("/ml", "/new", "/ml2/1", "/ml2/1"),
        ("/a b", "/c d", "file:///a%20b/1", "file:///c%20d/1"),
        ("/ml", "s3://bucket/x", "/ml/1", "s3://bucket/x/1"),
        ("s3://bucket", "/new", "s3://bucket/1", "/new/1"),
        ("gs://bucket/a", "azure://acct/models/b", "gs://bucket/a/1", "wasbs://models@acct.blob.core.windows.net/b/1"),
        ("azure://acct/models", "gs://bucket", "wasbs://models@acct.blob.core.windows.net/1", "gs://bucket/1"),
        ("s3://bucket", "gs://bucket", "s3://bucket/1", "gs://bucket/1"),
        ("/ml", "/ml/restored", "/ml/1", "/ml/restored/1"),
        ("/ml", "/new", "mlflow-artifacts:/1", "mlflow-artifacts:/1"),
        ("/ml", "/ml", "/ml/1", "/ml/1"),
        ("/ml", "/new", "//ml//1", "/new/1"),
        ("/ml", "/new", "/ml//1", "/new//1"),
        ("/ml", "/c d", "file:////ml/1", "file:///c%20d/1"),
        ("/ml", "/new", "file://localhost/ml", "file:///new"),
        ("/ml/art", "/new", "file:///ml/%61rt/a%20b", "file:///new/a%20b"),
        ("/ml", "s3://bucket/x", "file:////ml/1", "s3://bucket/x/1"),
        ("s3://bucket/x", "/new", "s3://KEY:SECRET@bucket/x/1?endpoint=http://h", "/new/1"),
        ("/ml", "/new", "file:////ml2/1", "file:////ml2/1"),
        ("/50%25 off", "/100% sure", "/50%25 off/1", "/100%25 sure/1"),
        ("/50%25 off", "/100% sure", "/50% off/1", "/100%25 sure/1"),
        ("/50% off", "/100%25 sure", "file:///50%25%20off/1", "file:///100%25%20sure/1"),
        ("/a%20b", "/new", "/a b/x%20y", "/new/x%20y"),
    ],
)
def test_locations_move_with_their_root(old: str, new: str, value: str, moved: str) -> None:
    """A location keeps its spelling and its path; what lies elsewhere stays."""
    assert between(old, new).apply(RUNS, ["r", value]) == ["r", moved]


def test_only_location_tags_of_traces_move() -> None:
    """A tag that a person wrote is history, even if it looks like a location."""
    move = between("/ml", "/new")
    assert move.apply(TRACE_TAGS, ["mlflow.artifactLocation", "/ml/t"]) == ["mlflow.artifactLocation", "/new/t"]
    assert move.apply(TRACE_TAGS, ["note", "/ml/t"]) == ["note", "/ml/t"]


@pytest.mark.parametrize("value", ["/ml", "/ml/1", "file:///ml/1", '{"at": "/ml/1"}', "see file:/ml, please"])
def test_old_root_in_an_unknown_column_is_found(value: str) -> None:
    """However it is written or wrapped, an old root that is left fails the restore."""
    unknown = Table("archive", (Column("place", "text", True),), ())
    with pytest.raises(IntegrityError, match=r"archive\.place"):
        list(between("/ml", "/new").inspected(unknown, in_batches([[value]])))


@pytest.mark.parametrize("value", ["/ml2", "/new/ml", "s3://bucket/ml", "/mlx/1", "html/ml-1"])
def test_similar_text_is_not_taken_for_the_old_root(value: str) -> None:
    """A path that only begins alike, or holds the name further down, is no finding."""
    list(
        between("/ml", "/new").inspected(Table("archive", (Column("place", "text", True),), ()), in_batches([[value]]))
    )


@pytest.mark.parametrize("value", ["//ml/1", "file:////ml/1", "file://localhost/ml", "file:///%6dl/1"])
def test_a_location_that_still_lies_below_an_old_root_is_found(value: str) -> None:
    """By what it means, whichever way it is spelled; elsewhere it is nobody's business."""
    with pytest.raises(IntegrityError, match=r"runs\.artifact_uri still names an old artifact root"):
        list(between("/ml", "/new").inspected(RUNS, in_batches([["r", value]])))
    list(between("/other", "/new").inspected(RUNS, in_batches([["r", value]])))


@pytest.mark.parametrize("value", ["/x/a%20b", "/x/100%25 sure", "/x/100% sure", "file:///x/a%20b", "/x/%ff"])
def test_a_local_path_is_read_as_mlflow_reads_it(value: str) -> None:
    """It takes %20 for a space in a plain path, too; and what we write of a place is read as that place."""
    from mlflow.utils.file_utils import local_file_uri_to_path

    found = placed_values({"runs.artifact_uri": [value]})["runs.artifact_uri"][0]
    assert found.path == local_file_uri_to_path(value) == root_place(value).path
    assert local_file_uri_to_path(found.location) == found.path == place_of(found.location).path  # type: ignore[union-attr]


def test_new_root_below_the_old_one_is_told_apart() -> None:
    """Below the old root there is a new place and there are leftovers; only these are found."""
    archive, move = Table("archive", (Column("place", "text", True),), ()), between("/ml", "/ml/restored")
    list(move.inspected(archive, in_batches([["/ml/restored/1"]])))
    with pytest.raises(IntegrityError):
        list(move.inspected(archive, in_batches([["/ml/1"]])))


def test_old_root_below_the_new_one_is_found() -> None:
    """The other way round, the old root is not hidden by the new one."""
    with pytest.raises(IntegrityError):
        list(
            between("/data/ml", "/data").inspected(
                Table("archive", (Column("place", "text", True),), ()), in_batches([["/data/ml/1"]])
            )
        )


def test_history_is_kept_and_counted() -> None:
    """What people wrote is left as it is, and each mention is counted."""
    params, move = Table("params", (Column("value", "text", True),), ()), between("/ml", "/new")
    for value in ("/ml/data.csv", "other", "at /ml"):
        list(move.inspected(params, in_batches([[value]])))
    assert move.mentions == {"params.value": 2}
