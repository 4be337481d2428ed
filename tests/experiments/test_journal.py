import json

import pytest

from jifv.experiments import journal

ENTRY = {"batch": 1, "checksums": {"x": 7}, "seconds": {"work": 1.5}, "devices": 1, "commit": None}
ENTRY |= {"compiled": True, "at": 1.0}
STAGE = {"arrays": {"x": {"dtype": "<f4", "shape": [2]}}, "batches": [ENTRY]}
JOURNAL = journal.new({"name": "a"}, 7, 3) | {"stages": {"realize": STAGE}}


def test_journal_comes_back_and_is_an_attribute_of_a_group(tmp_path):
    journal.write(tmp_path, JOURNAL)
    assert journal.read(tmp_path) == JOURNAL
    document = json.loads((tmp_path / "zarr.json").read_text())
    assert (document["zarr_format"], document["node_type"]) == (3, "group")
    assert document["attributes"]["jifv"]["journal"] == JOURNAL


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is damaged: Expecting value"),
        ('{"zarr_format": 3, "no', "is damaged: Unterminated"),
        ("[" * 100_000, "is damaged"),
        (b"\xff\xfe\xfa", "is damaged"),
        ("{}", "is not the journal of a run"),
        ("[]", "is not the journal of a run"),
        ("3", "is not the journal of a run"),
        ('{"attributes": []}', "is not the journal of a run"),
        ('{"attributes": {}}', "is not the journal of a run"),
        ('{"attributes": {"jifv": {"format": 2}}}', "is not the journal of a run"),
        ('{"attributes": {"jifv": {"format": 9, "checksum": 0, "journal": {}}}}', "format 2 of this jifv, got 9"),
        ('{"attributes": {"jifv": {"format": 2, "checksum": 0, "journal": {}}}}', "the checksum that it says"),
    ],
)
def test_file_that_is_no_journal_is_told_by_its_name(tmp_path, content, message):
    (tmp_path / "zarr.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=rf"zarr\.json.*{message}"):
        journal.read(tmp_path)


def test_folder_without_one_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: there is no .*zarr\.json"):
        journal.read(tmp_path)


def changed(path, value):
    copy = json.loads(json.dumps(JOURNAL))
    part = copy
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    return copy


FIRST = ("stages", "realize", "batches", 0)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("identity",), []),
        (("samples",), "7"),
        (("samples",), True),
        (("samples",), 0),
        (("batch_size",), -1),
        (("stages",), []),
        (("stages", "../realize"), STAGE),
        (("stages", "realize"), []),
        (("stages", "realize", "arrays"), {"../../x": {"dtype": "<f4", "shape": [2]}}),
        (("stages", "realize", "arrays"), {}),
        (("stages", "realize", "arrays", "x", "dtype"), "|O"),
        (("stages", "realize", "arrays", "x", "shape"), [-1]),
        (("stages", "realize", "arrays", "x", "shape"), ["2"]),
        (("stages", "realize", "batches"), [ENTRY, ENTRY]),
        (FIRST, None),
        ((*FIRST, "batch"), 3),
        ((*FIRST, "batch"), -1),
        ((*FIRST, "batch"), 1.0),
        ((*FIRST, "checksums"), {}),
        ((*FIRST, "seconds"), {"work": "long"}),
        ((*FIRST, "devices"), None),
        ((*FIRST, "commit"), 3),
        ((*FIRST, "compiled"), 1),
    ],
)
def test_part_of_the_wrong_type_is_refused(tmp_path, path, value):
    journal.write(tmp_path, changed(path, value))  # with the right checksum: somebody meant it
    with pytest.raises(ValueError, match=r"zarr\.json is not the journal of a run: a part of it has the wrong type"):
        journal.read(tmp_path)


@pytest.mark.parametrize("step", [pytest.param(1, marks=pytest.mark.slow), 7])
def test_every_bit_of_it_counts(tmp_path, step):
    """Every seventh is one or two of each byte, and another one in the next."""
    journal.write(tmp_path, JOURNAL)
    file = tmp_path / "zarr.json"
    content = file.read_bytes()
    refused = 0
    for bit in range(0, 8 * len(content), step):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        file.write_bytes(flipped)
        try:
            assert journal.read(tmp_path) == JOURNAL  # in white space, or in what is Zarr's
        except ValueError:
            refused += 1
    assert refused > 4 * len(content) / step
