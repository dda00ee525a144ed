import csv
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vouch.datasets.ratings import read_ratings, write_ratings
from vouch.errors import InvalidInput, NotFound
from vouch.storage.catalog import Catalog
from vouch.types.rating import Preference

SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".parquet"])


@pytest.fixture
def images(make_image):
    return [make_image(n, generator_version="a" * 64) for n in range(3)]


@pytest.fixture
def full(catalog, domain, images, make_rating):
    """A catalog with ratings of every shape."""
    first, second, _ = (image.digest for image in images)
    catalog.images.add(images)
    rating = catalog.ratings.record(make_rating(first, text='a "quote",\r\nand\na line  '), domain)
    catalog.ratings.record(
        make_rating(first, supersedes=rating.id, answers={"granules": "fail"}, duration_ms=5500), domain
    )
    catalog.ratings.record(
        make_rating(
            second,
            kind="simulated",
            rater="Ψ, the simulated",
            verdict="unsure",
            answers={"chromatin": "unsure", "cell_type": "pass"},
            preference=Preference(other=first, preferred=second),
            ui_version="0.1",
        ),
        domain,
    )
    return catalog


@pytest.fixture
def empty(tmp_path, images):
    """Another catalog that knows the images and no rating."""
    with Catalog(f"sqlite:///{tmp_path / 'other.db'}") as other:
        other.images.add(images)
        yield other


def export_ratings(catalog, path):
    return write_ratings(path, catalog.ratings.iterate())


def import_ratings(catalog, path, domain):
    """The numbers of added and of already stored ratings."""
    return catalog.ratings.restore(read_ratings(path), domain)


@SUFFIXES
def test_what_is_exported_imports_again_exactly(suffix, full, empty, domain, tmp_path):
    path = tmp_path / f"ratings{suffix}"

    assert export_ratings(full, path) == 3
    assert import_ratings(empty, path, domain) == (3, 0)
    assert list(empty.ratings.iterate()) == list(full.ratings.iterate())
    assert empty.ratings.freeze() == full.ratings.freeze()


@SUFFIXES
def test_importing_twice_changes_nothing(suffix, full, domain, tmp_path):
    path = tmp_path / f"ratings{suffix}"
    export_ratings(full, path)
    assert import_ratings(full, path, domain) == (0, 3)
    assert full.ratings.count() == 3


@SUFFIXES
def test_a_catalog_without_ratings_round_trips_too(suffix, empty, domain, tmp_path):
    path = tmp_path / f"ratings{suffix}"
    assert export_ratings(empty, path) == 0
    assert import_ratings(empty, path, domain) == (0, 0)


def test_a_file_says_what_simulated_raters_said_and_has_a_column_per_criterion(full, tmp_path):
    export_ratings(full, tmp_path / "ratings.parquet")
    table = pq.read_table(tmp_path / "ratings.parquet")
    assert table.column("kind").to_pylist() == ["human", "human", "simulated"]
    assert table.column("answer.granules").to_pylist() == [None, "fail", None]


def edit_csv(path, change):
    rows = list(csv.DictReader(io.StringIO(path.read_text("utf-8"), newline="")))
    change(rows)
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def test_bad_rows_are_named_by_number_and_nothing_is_half_imported(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)

    def spoil(rows):
        rows[1]["image"] = "0" * 64
        rows[2]["answer.chromatin"] = "perhaps"

    edit_csv(path, spoil)
    with pytest.raises(InvalidInput, match="2 rows are not acceptable; nothing was imported") as refusal:
        import_ratings(empty, path, domain)
    assert "row 2: There is no image 0000" in refusal.value.message
    assert "row 3: 'perhaps' is not an answer" in refusal.value.message
    assert "row 1" not in refusal.value.message
    assert empty.ratings.count() == 0


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("id", "", "id is empty"),
        ("duration_ms", "soon", "not a whole number: 'soon'"),
        ("duration_ms", "1200.7", "not a whole number: '1200.7'"),
        ("duration_ms", "-1", "duration_ms must be 0 to 86400000, one day, not '-1'"),
        ("duration_ms", "9" * 400, "duration_ms must be 0 to 86400000, one day, not '9{79}…"),
        ("created_at", "yesterday", "created_at is not a time"),
        ("created_at", "0001-01-01T00:00:00+14:00", "not within the years 1 to 9999"),
        ("created_at", "2026-01-01T00:00:00", "no time zone"),
        ("verdict", "good", "plausible, implausible, unsure"),
        ("kind", "robot", "human, simulated"),
        ("domain", "skin", "belongs to domain 'skin'"),
        ("preference_other", "x", "prefers one of the two"),
        ("supersedes", "0" * 32, "no rating 0000"),
    ],
)
def test_each_fault_of_a_row_is_said(column, value, what, full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    edit_csv(path, lambda rows: rows[0].update({column: value}))
    with pytest.raises(InvalidInput, match=f"row 1: .*{what}"):
        import_ratings(empty, path, domain)
    assert empty.ratings.count() == 0


def test_a_row_that_lost_its_last_cells_is_refused(full, empty, domain, tmp_path):
    path = tmp_path / "short.csv"
    export_ratings(full, path)
    header, *rows = csv.reader(io.StringIO(path.read_text("utf-8"), newline=""))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, rows[0], rows[1][:-1], rows[2]])
    with pytest.raises(InvalidInput, match=f"row 2 ends before column '{header[-1]}'"):
        import_ratings(empty, path, domain)


def test_numbers_with_gaps_are_read_as_pandas_writes_them(full, tmp_path):
    path = tmp_path / "ratings.parquet"
    export_ratings(full, path)
    table = pq.read_table(path)
    gaps = pa.array([float("nan")] * len(table))
    for name, column in (("answer.nucleus", gaps), ("text", gaps), ("duration_ms", gaps)):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, column) if at >= 0 else table.append_column(name, column)
    pq.write_table(table, path)
    ratings = [rating for _, rating in read_ratings(path)]
    assert {(rating.text, rating.duration_ms) for rating in ratings} == {("", 0)}
    assert not any("nucleus" in rating.answers for rating in ratings)
    durations = pa.array([1200.7, *[1200.0] * (len(table) - 1)])
    at = table.schema.get_field_index("duration_ms")
    pq.write_table(table.set_column(at, "duration_ms", durations), path)
    with pytest.raises(InvalidInput, match=r"row 1: duration_ms is not a whole number: 1200\.7"):
        read_ratings(path)


def test_a_rating_that_differs_from_the_one_that_is_there_is_refused(full, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    before = list(full.ratings.iterate())
    edit_csv(path, lambda rows: rows[0].update({"verdict": "implausible"}))
    with pytest.raises(InvalidInput, match="row 1: .*already another rating"):
        import_ratings(full, path, domain)
    assert list(full.ratings.iterate()) == before


def test_rows_in_another_order_import_too(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    edit_csv(path, lambda rows: rows.reverse())
    assert import_ratings(empty, path, domain) == (3, 0)


def test_a_mark_that_a_spreadsheet_puts_before_the_text_does_no_harm(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert import_ratings(empty, path, domain) == (3, 0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("ratings.csv", b""),
        ("ratings.csv", b"id,image\n1,2\n"),
        ("ratings.csv", b"\xff\xfe\x00"),
        ("ratings.csv", b'id\n"open'),
        ("ratings.parquet", b"not parquet"),
        ("ratings.parquet", b"PAR1" + bytes(100)),
        ("ratings.xlsx", b"PK"),
    ],
)
def test_a_file_that_is_none_is_refused_by_name(name, content, empty, domain, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"ratings\."):
        import_ratings(empty, path, domain)


def test_columns_that_mean_nothing_are_refused(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    path.write_text(path.read_text("utf-8").replace('"verdict"', '"verdict","answr.granules"', 1), "utf-8")
    with pytest.raises(InvalidInput, match=r"answr\.granules"):
        import_ratings(empty, path, domain)


def test_a_row_with_too_many_cells_is_refused(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    path.write_text(path.read_text("utf-8").rstrip("\n") + ',"more"\n', "utf-8")
    with pytest.raises(InvalidInput, match="more cells"):
        import_ratings(empty, path, domain)
    assert empty.ratings.count() == 0


def test_files_and_folders_that_are_not_there_are_not_found(empty, domain, tmp_path):
    with pytest.raises(NotFound):
        import_ratings(empty, tmp_path / "none.csv", domain)
    with pytest.raises(NotFound):
        export_ratings(empty, tmp_path / "none" / "ratings.csv")
    with pytest.raises(InvalidInput, match=r"\.csv or \.parquet"):
        export_ratings(empty, tmp_path / "ratings.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=15)
@given(
    texts=st.lists(
        st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), max_size=60),
        max_size=4,
    ),
    suffix=st.sampled_from([".csv", ".parquet"]),
)
def test_any_text_survives_a_file(texts, suffix, tmp_path_factory, domain, make_image, make_rating):
    folder = tmp_path_factory.mktemp("round")
    with Catalog(f"sqlite:///{folder / 'a.db'}") as one, Catalog(f"sqlite:///{folder / 'b.db'}") as two:
        for catalog in (one, two):
            catalog.images.add([make_image(1)])
        one.ratings.record_many([make_rating(make_image(1).digest, text=text) for text in texts], domain)
        export_ratings(one, folder / f"r{suffix}")
        import_ratings(two, folder / f"r{suffix}", domain)
        assert list(two.ratings.iterate()) == list(one.ratings.iterate())


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (",", "utf-8")])
def test_a_file_that_a_spreadsheet_saved_again_imports_the_same(
    separator, encoding, full, empty, domain, tmp_path
):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with path.open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=separator, lineterminator="\r\n").writerows(rows)
    assert import_ratings(empty, path, domain) == (3, 0)
    assert list(empty.ratings.iterate()) == list(full.ratings.iterate())


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_column_that_is_there_twice_loses_no_answer(suffix, full, empty, domain, tmp_path):
    path = tmp_path / f"ratings{suffix}"
    export_ratings(full, path)
    if suffix == ".csv":
        lines = path.read_text("utf-8").splitlines()
        path.write_text(
            "\n".join([lines[0] + ',"verdict"', *(line + ',""' for line in lines[1:])]) + "\n", "utf-8"
        )
    else:
        table = pq.read_table(path)
        pq.write_table(table.append_column("verdict", table["verdict"]), path)
    with pytest.raises(InvalidInput, match="column 'verdict' twice"):
        import_ratings(empty, path, domain)
    assert empty.ratings.count() == 0


def test_a_column_without_a_name_is_refused_by_its_place(full, empty, domain, tmp_path):
    path = tmp_path / "ratings.csv"
    export_ratings(full, path)
    lines = path.read_text("utf-8").splitlines()
    path.write_text(
        "\n".join("," + line if n == 0 else f"{n},{line}" for n, line in enumerate(lines)) + "\n", "utf-8"
    )
    with pytest.raises(InvalidInput, match=r"column 1 has no name.*index=False"):
        import_ratings(empty, path, domain)


def test_a_refusal_of_missing_columns_says_what_the_header_has(empty, domain, tmp_path):
    (tmp_path / "ratings.csv").write_text("id:image\n1:2\n")
    with pytest.raises(InvalidInput, match=r"lacks the columns .*Its header has 'id:image'"):
        import_ratings(empty, tmp_path / "ratings.csv", domain)
