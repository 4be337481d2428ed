import numpy as np
import pytest
import zarr
from support.stores import IDENTITY, arrays, fill, full_disk

from jifv.experiments import journal
from jifv.experiments.store import Store


@pytest.fixture(params=["memory", "disk"])
def store(request, tmp_path):
    return Store.in_memory(7, 3) if request.param == "memory" else Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)


def test_batches_come_back_in_the_order_of_the_samples(store):
    for batch in reversed(store.missing("realize")):
        store.write("realize", batch, arrays(store, batch), {})
    read = store.read("realize")
    assert store.missing("realize") == []
    np.testing.assert_array_equal(read["values"][:, 0, 0], np.arange(7))
    assert read["values"].dtype == np.float32
    assert read["flags"].tolist() == [True, False] * 3 + [True]


def test_last_batch_is_what_is_left(store):
    assert [store.rows(batch).tolist() for batch in store.missing("realize")] == [[0, 1, 2], [3, 4, 5], [6]]


def test_number_of_devices_is_that_of_every_batch(store):
    for stage, batch, devices in [("realize", 0, 8), ("realize", 1, 2), ("reoptimize", 0, 8)]:
        store.write(stage, batch, arrays(store, batch), {}, devices=devices)
    assert store.devices() == [2, 8]


def test_not_a_number_and_infinity_come_back(store):
    odd = np.array([[np.nan, np.inf], [-np.inf, 0.0], [1.0, 2.0]])
    for batch in store.missing("odd"):
        store.write("odd", batch, {"x": odd[: len(store.rows(batch))]}, {})
    np.testing.assert_array_equal(store.read("odd")["x"][:3], odd)


def test_stages_are_apart(store):
    fill(store)
    assert store.missing("reoptimize") == [0, 1, 2]


def test_seconds_are_a_sample_and_without_compilation(store):
    fill(store)  # 1 s for three samples with compilation, then 2 s for three and 3 s for one
    assert store.seconds() == {"work": pytest.approx(5 / 4)}
    assert store.total_seconds() == pytest.approx(6)
    assert store.total_seconds({"work": 4, "other": 9}) == pytest.approx(24)


def test_seconds_of_a_single_batch_include_compilation():
    store = Store.in_memory(2, 2)
    fill(store)
    assert store.seconds() == {"work": pytest.approx(0.5)}


def test_reopened_store_goes_on(tmp_path):
    first = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    first.write("realize", 1, arrays(first, 1), {"work": 1.0})
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    assert again.missing("realize") == [0, 2]
    fill(again)
    np.testing.assert_array_equal(again.read("realize")["values"][:, 0, 0], np.arange(7))


def test_anybody_can_open_the_arrays(tmp_path):
    fill(Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3))
    assert zarr.open_group(tmp_path / "a.zarr" / "realize", mode="r")["values"].shape == (7, 3, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": "xyz"}, "weights is abc, not xyz"),
        ({"experiment": {"name": "a", "steps": 4}}, r"experiment\.steps is 3, not 4"),
        ({"new": 1}, "new is not there, not 1"),
    ],
)
def test_store_of_another_run_is_refused_by_what_differs(tmp_path, change, message):
    Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    with pytest.raises(ValueError, match=message):
        Store.open(tmp_path / "a.zarr", IDENTITY | change, 7, 3)


def test_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="holds no run"):
        Store.open(tmp_path, IDENTITY, 7, 3)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_batch_that_did_not_reach_the_journal_does_not_count(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    monkeypatch.setattr("jifv.experiments.journal.replace_durably", full_disk)
    with pytest.raises(OSError, match="No space"):
        store.write("realize", 1, arrays(store, 1), {})
    monkeypatch.undo()
    assert store.missing("realize") == [1, 2]
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    assert again.missing("realize") == [1, 2]


def test_full_disk_names_the_chunk_and_keeps_what_was_finished(tmp_path, monkeypatch):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    monkeypatch.setattr("zarr.storage._local._put", full_disk)
    with pytest.raises(OSError, match=r"No space left on device: '.*a\.zarr/realize/values/c/1/0/0'"):
        store.write("realize", 1, arrays(store, 1), {})
    monkeypatch.undo()
    fill(store)
    np.testing.assert_array_equal(store.read("realize")["values"][:, 0, 0], np.arange(7))


def test_half_made_arrays_of_a_first_batch_are_no_obstacle(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    (tmp_path / "a.zarr" / "realize" / "values").mkdir(parents=True)
    (tmp_path / "a.zarr" / "realize" / "values" / "zarr.json").write_text('{"zarr_fo')
    fill(store)
    np.testing.assert_array_equal(store.read("realize")["values"][:, 0, 0], np.arange(7))


def test_half_written_chunk_of_a_later_batch_is_written_again(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {})
    chunk = tmp_path / "a.zarr" / "realize" / "values" / "c" / "1" / "0" / "0"
    chunk.parent.mkdir(parents=True)
    chunk.write_bytes(b"torn")
    again = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    fill(again)
    np.testing.assert_array_equal(again.read("realize")["values"][:, 0, 0], np.arange(7))


@pytest.mark.parametrize(("samples", "batch_size"), [(0, 1), (1, 0)])
def test_sizes_must_be_positive(samples, batch_size):
    with pytest.raises(ValueError, match="must be at least 1"):
        Store.in_memory(samples, batch_size)


# What the caller may get wrong.


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.zeros((2, 2))}, r"arrays must hold 3 rows of numbers, got float64 of shape \(2, 2\) for x"),
        ({"x": np.array(1, np.float32)}, r"got float32 of shape \(\) for x"),
        ({"x": np.array(["a", "b", "c"])}, "got <U1 of shape"),
        ({"../x": np.zeros(3)}, r"named by letters, digits, _ and -, got '\.\./x'"),
        ({"x": np.zeros(3), "y": np.zeros(3)}, "as in the other batches of realize: y is not there"),
        ({"x": np.zeros(3, np.int32)}, r"x\.dtype is <f8, not <i4"),
        ({"x": np.zeros((3, 1))}, r"x\.shape is \[\], not \[1\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(store, values, message):
    store.write("realize", 0, {"x": np.zeros(3)}, {})
    with pytest.raises(ValueError, match=message):
        store.write("realize", 1, values, {})
    assert store.missing("realize") == [1, 2]


def test_batch_is_written_once(store):
    store.write("realize", 0, arrays(store, 0), {})
    for batch in (0, 3, -1):
        with pytest.raises(ValueError, match=rf"a missing one of realize, \[1, 2\], got {batch}"):
            store.write("realize", batch, arrays(store, 0), {})


def test_stage_is_read_once_it_is_finished(store):
    store.write("realize", 0, arrays(store, 0), {})
    with pytest.raises(ValueError, match=r"got realize, which lacks the batches \[1, 2\]"):
        store.read("realize")


def test_numbers_come_back_whatever_their_type(store):
    kinds = {name: np.array([0, 1, 2], name) for name in ("bool", "int8", "uint16", "float16", "float64", "complex64")}
    kinds |= {"big": np.array([0, 1, 2], ">f4"), "strided": np.arange(6.0)[::2], "empty": np.zeros((3, 0))}
    for batch in store.missing("types"):
        count = len(store.rows(batch))
        store.write("types", batch, {name: value[:count] for name, value in kinds.items()}, {})
    for name, value in store.read("types").items():
        np.testing.assert_array_equal(value[:3], kinds[name])
        assert value.dtype == kinds[name].dtype.newbyteorder("=")


def test_journal_keeps_how_each_batch_was_computed(tmp_path):
    store = Store.open(tmp_path / "a.zarr", IDENTITY, 7, 3)
    store.write("realize", 0, arrays(store, 0), {"work": 2.0}, devices=4, commit="abc")
    store.write("realize", 1, arrays(store, 1), {"work": 1.0}, devices=4, commit="def")
    store.write("realize", 2, arrays(store, 2), {"work": 1.0})
    entries = journal.read(tmp_path / "a.zarr")["stages"]["realize"]["batches"]
    assert [(each["batch"], each["devices"], each["commit"], each["compiled"]) for each in entries] == [
        (0, 4, "abc", True),
        (1, 4, "def", False),
        (2, 1, None, False),
    ]
    assert [each["seconds"] for each in entries] == [{"work": 2.0}, {"work": 1.0}, {"work": 1.0}]
    assert store.commits() == ["abc", "def"]
