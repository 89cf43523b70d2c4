"""SelfGNN's released pickles: what is kept of them, and that a malicious one is refused before it does anything."""

from __future__ import annotations

import itertools
import json
import os
import pickle
import pickletools
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

import hardgnn
from hardgnn.data.dataset import TEST, TRAIN, VALID, Dataset
from hardgnn.data.intervals import cut
from hardgnn.errors import HardGNNError
from hardgnn.prepare.pipeline import prepare_file
from hardgnn.prepare.released import pickles
from hardgnn.prepare.released.pickles import PickledArray, load_pickle
from hardgnn.prepare.released.selfgnn import FILES, read_selfgnn

YEAR_S, USERS, ITEMS, INTERVALS = 1_262_304_000, 12, 30, 3
NEGATIVES = 9


def release(leak: bool = False, seed: int = 0) -> dict[str, Any]:
    """The four objects, made as the published notebooks do: times in days, some users without a test item.

    With `leak`, the test item stays at the end of the sequence, as the notebook for Amazon leaves it.
    """
    rng = np.random.default_rng(seed)
    sequence, test, drawn = [], [], {}
    edges: list[tuple[int, int, int, int]] = []
    times = np.sort(rng.choice(365, size=(USERS, 12)) * 86_400 + YEAR_S, axis=1)
    times[0, 0], times[-1, -1] = YEAR_S, YEAR_S + 364 * 86_400
    width = 364 * 86_400 / INTERVALS
    for user in range(USERS):
        items = rng.permutation(ITEMS)[: 8 + user % 5].tolist()
        if user == 3:
            items[1] = items[4]  # a repeat
        has_test = user % 4 != 2
        held = 2 if has_test else 1
        for item, time in list(zip(items, times[user]))[: len(items) - held]:
            interval = min(int((time - YEAR_S) / width), INTERVALS - 1)
            if (user, item, interval) not in {(u, i, k) for u, i, k, _ in edges}:
                edges.append((user, item, interval, int(time)))
        test.append(items[-1] if has_test else None)
        sequence.append([np.int64(one) for one in (items if leak or not has_test else items[:-1])])
        if has_test:
            free = np.setdiff1d(np.arange(ITEMS), items)
            drawn[np.int64(user + 1)] = [int(one) + 1 for one in rng.choice(free, NEGATIVES)]
    user, item, interval, time = map(np.array, zip(*edges))
    parts = [
        sp.csr_matrix((time[interval == k].astype(np.intc), (user[interval == k], item[interval == k])), (USERS, ITEMS))
        for k in range(INTERVALS)
    ]
    whole = sp.csr_matrix((np.ones(len(user)), (user, item)), (USERS, ITEMS))
    return {
        "sequence": sequence,
        "test_dict": drawn,
        "trn_mat_time": [whole, parts, whole.astype(np.intc)],
        "tst_int": test,
    }


def write(folder: Path, objects: dict[str, Any], protocol: int = 4, **replaced: Any) -> Path:
    folder.mkdir(exist_ok=True)
    for name, content in {**objects, **replaced}.items():
        data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
        (folder / name).write_bytes(data)
    return folder


def rows_of(data: Dataset, user: int) -> list[tuple[int, int]]:
    return list(zip(data.item[data.user == user].tolist(), data.part[data.user == user].tolist()))


@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("protocol", range(6))
def test_the_released_split_and_candidates_are_kept(tmp_path: Path, protocol: int, leak: bool) -> None:
    objects = release()
    data = read_selfgnn(write(tmp_path / "gowalla", release(leak), protocol))
    assert (data.name, data.n_users, data.n_items) == ("gowalla", USERS, ITEMS)
    for user, (items, test) in enumerate(zip(objects["sequence"], objects["tst_int"])):
        expected = [(one, TRAIN) for one in items[:-1]] + [(items[-1], VALID)]
        assert rows_of(data, user) == expected + ([] if test is None else [(test, TEST)])
    assert [user + 1 for user in data.candidates.users] == sorted(objects["test_dict"])
    for user, row in zip(data.candidates.users, data.candidates.items):
        assert (row + 1).tolist() == objects["test_dict"][user + 1]
    found = data.manifest["released"]
    assert found["test_items_in_sequence_users"] == found["test_items_last_in_sequence"] == (9 if leak else 0)
    assert ("stands in their training sequence, and was taken out" in str(data.manifest["warnings"])) == leak
    assert data.manifest["leaks"] == []


@pytest.mark.parametrize("leak", [False, True])
def test_the_graphs_are_the_released_ones(tmp_path: Path, leak: bool) -> None:
    objects = release()
    data = read_selfgnn(write(tmp_path / "r", release(leak)))
    train = data.part == TRAIN
    interval = cut(data.timestamp[train], INTERVALS, "width", data.time_span)
    for number, matrix in enumerate(objects["trn_mat_time"][1]):
        rows = interval == number
        ours = set(zip(data.user[train][rows].tolist(), data.item[train][rows].tolist()))
        assert ours == set(zip(*(one.tolist() for one in matrix.nonzero())))
        released = {(u, i): t for u, i, t in zip(*(one.tolist() for one in sp.find(matrix)))}
        for u, i, t in zip(data.user[train][rows], data.item[train][rows], data.timestamp[train][rows]):
            assert released[u, i] == t
    found = data.manifest["released"]
    for name in ("edges_only_in_our_graphs", "edges_only_in_released_graphs", "training_items_without_edge"):
        assert found[name] == 0
    for user in range(USERS):  # what is held out follows
        own = data.timestamp[data.user == user]
        assert own[-1] == own[:-1].max() or data.manifest["released"]["steps_back_in_time"]


def test_leaks_stay_only_when_asked_for(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", release(leak=True))
    kept = read_selfgnn(folder, allow_leaks=True)
    assert "the test item of 9 of 9 users" in kept.manifest["leaks"][0]
    assert rows_of(kept, 0)[-2:] == [(release()["tst_int"][0], VALID), (release()["tst_int"][0], TEST)]


def test_intervals_of_unequal_width_stand_for_their_times(tmp_path: Path) -> None:
    objects = release()
    whole, parts, numbers = objects["trn_mat_time"]
    for number, part in enumerate(parts):  # the first interval is a hundred times as long as the second
        part.data[:] = (100, 201, 202)[number]
    parts[0].data[0] = 200
    parts.append(sp.csr_matrix((USERS, ITEMS)))
    data = read_selfgnn(write(tmp_path / "r", objects, trn_mat_time=[whole, parts, numbers]))
    assert "not of equal width" in data.manifest["warnings"][0]
    assert data.time_span == (0, 4)
    train = data.part == TRAIN
    interval = cut(data.timestamp[train], 4, "width", data.time_span)
    for number, matrix in enumerate(parts):
        rows = interval == number
        ours = set(zip(data.user[train][rows].tolist(), data.item[train][rows].tolist()))
        assert ours == set(zip(*(one.tolist() for one in matrix.nonzero())))


def test_prepare_takes_the_folder_and_refuses_options_that_would_do_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "r", release())
    prepare_file(folder).save(tmp_path / "out")
    again = Dataset.load(tmp_path / "out")
    assert again.time_span == read_selfgnn(folder).time_span
    np.testing.assert_array_equal(again.item, prepare_file(folder, format="selfgnn").item)
    with pytest.raises(HardGNNError, match="k_core would do nothing"):
        prepare_file(folder, settings={"k_core": 3})
    (folder / "tst_int").unlink()
    with pytest.raises(HardGNNError, match="no file tst_int; selfgnn expects sequence, test_dict"):
        prepare_file(folder, format="selfgnn")
    with pytest.raises(HardGNNError, match="a folder, expected a file"):
        prepare_file(folder)
    with pytest.raises(HardGNNError, match="split already"):
        Dataset.read(folder, format="selfgnn")
    with pytest.raises(HardGNNError, match="did you mean 'selfgnn'"):
        prepare_file(folder, format="selfgn")


def renamed(data: bytes, names: dict[str, str]) -> bytes:
    """The pickle with other module names, written anew opcode by opcode."""
    out = bytearray()
    codes = list(pickletools.genops(data))
    for (code, argument, place), following in itertools.zip_longest(codes, codes[1:]):
        raw = data[place : following[2] if following else len(data)]
        if code.name == "GLOBAL":
            module, name = argument.split(" ")
            raw = f"c{names.get(module, module)}\n{name}\n".encode()
        elif code.name in ("SHORT_BINUNICODE", "BINUNICODE") and argument in names:
            text = names[argument].encode()
            raw = b"X" + struct.pack("<I", len(text)) + text
        elif code.name == "FRAME":
            raw = b""  # frames are optional, and the lengths change
        out += raw
    return bytes(out)


OLD = {
    "numpy._core.multiarray": "numpy.core.multiarray",
    "numpy._core.numeric": "numpy.core.numeric",
    "scipy.sparse._csr": "scipy.sparse.csr",
    "scipy.sparse._csc": "scipy.sparse.csc",
    "scipy.sparse._coo": "scipy.sparse.coo",
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("names", ["new", "old"])
@pytest.mark.parametrize("form", ["csr_matrix", "csc_matrix", "coo_matrix", "csr_array"])
def test_old_and_new_names_of_numpy_and_scipy(tmp_path: Path, protocol: int, names: str, form: str) -> None:
    objects = release()
    whole, parts, numbers = objects["trn_mat_time"]
    change = getattr(sp, form)
    objects["trn_mat_time"] = [change(whole), [change(part) for part in parts], numbers]
    pickled = {name: pickle.dumps(content, protocol) for name, content in objects.items()}
    if names == "old":
        assert any(module.encode() in data for module in OLD for data in pickled.values())
        pickled = {name: renamed(data, OLD) for name, data in pickled.items()}
        assert not any(module.encode() in data for module in OLD for data in pickled.values())
    data = read_selfgnn(write(tmp_path / "r", pickled))
    expected = read_selfgnn(write(tmp_path / "s", release()))
    np.testing.assert_array_equal(data.timestamp, expected.timestamp)
    np.testing.assert_array_equal(data.item, expected.item)


@pytest.mark.parametrize("protocol", range(6))
def test_values_that_are_admitted(tmp_path: Path, protocol: int) -> None:
    values = [
        1,
        -(2**70),
        1.5,
        True,
        None,
        "é",
        b"",
        b"\xff\n",
        (1, (2, [])),
        {1: "a", "b": [2]},
        {1, "x"},
        frozenset([2]),
    ]
    arrays = [
        np.arange(6),
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6).reshape(2, 3)),
        np.array([], ">u2"),
    ]
    arrays += [np.array([True, False]), np.arange(3, dtype=">i4")]
    scalars = [np.int64(-3), np.float32(0.5), np.bool_(True), np.uint8(200)]
    path = tmp_path / "p"
    path.write_bytes(pickle.dumps([values, arrays, scalars, np.array([1, None, [2]], dtype=object)], protocol))
    plain, loaded, single, objects = load_pickle(path)
    assert plain == values
    assert single == [-3, 0.5, True, 200]
    assert objects.values == [1, None, [2]]
    for one, other in zip(arrays, loaded):
        assert isinstance(other, PickledArray)
        np.testing.assert_array_equal(other.values, one)
        assert other.values.dtype == one.dtype


def test_sequences_may_be_arrays(tmp_path: Path) -> None:
    objects = release()
    expected = read_selfgnn(write(tmp_path / "a", objects))
    arrays = [np.array(one) for one in objects["sequence"]]
    forms: list[dict[str, Any]] = [
        {"sequence": arrays},
        {"sequence": [np.array(one.tolist(), dtype=object) for one in arrays]},
        {"sequence": [arrays[0].tolist(), *arrays[1:]]},
        {"tst_int": np.array(objects["tst_int"])},
        {"tst_int": [None if one is None else np.int64(one) for one in objects["tst_int"]]},
        {"test_dict": {user: np.array(drawn) for user, drawn in objects["test_dict"].items()}},
    ]
    for number, form in enumerate(forms):
        data = read_selfgnn(write(tmp_path / str(number), objects, **form))
        np.testing.assert_array_equal(data.item, expected.item)
        np.testing.assert_array_equal(data.candidates.items, expected.candidates.items)


def changed(name: str, change: Callable[[Any], Any]) -> dict[str, Any]:
    return {name: change(release()[name])}


MISFITS: dict[str, tuple[dict[str, Any], str]] = {
    "fewer-users": (changed("sequence", lambda x: x[:-1]), "sequence has 11 users, trn_mat_time 12"),
    "fewer-tests": (changed("tst_int", lambda x: x[:-1]), "tst_int has 11 users, trn_mat_time 12"),
    "item-beyond": (
        changed("sequence", lambda x: [[30], *x[1:]]),
        "sequence: item 30, but trn_mat_time has numbers from 0 to 29",
    ),
    "test-beyond": (changed("tst_int", lambda x: [30, *x[1:]]), "tst_int: item 30"),
    "test-below": (changed("tst_int", lambda x: [-2, *x[1:]]), "tst_int: item -2"),
    "user-from-0": (
        changed("test_dict", lambda x: {0: [1], **x}),
        "test_dict: user 0, but trn_mat_time has numbers from 1 to 12",
    ),
    "negative-from-0": (changed("test_dict", lambda x: {**x, 1: [0]}), "test_dict: item 0, .* from 1 to 30"),
    "negatives-no-dict": (changed("test_dict", list), "test_dict: a list, expected a dictionary"),
    "words": (changed("sequence", lambda x: [["a"], *x[1:]]), "sequence: users: a str, expected whole numbers"),
    "nested": (changed("sequence", lambda x: [[[1]], *x[1:]]), "a list, expected whole numbers"),
    "floats": (changed("sequence", lambda x: [[1.0], *x[1:]]), "a float, expected whole numbers"),
    "float-arrays": (changed("sequence", lambda x: [np.array([1.0])] * 12), "dtype float64 in 1 dimensions"),
    "no-list": (changed("sequence", lambda x: 5), "sequence: a int, expected a list"),
    "long-number": (changed("sequence", lambda x: [[2**80], *x[1:]]), "more than 64 bits"),
    "one-matrix": (changed("trn_mat_time", lambda x: x[:1]), "expected the training matrix and a list"),
    "other-shape": (changed("trn_mat_time", lambda x: [x[0], [x[1][0][:, :9]]]), r"interval 0 has shape \(12, 9\)"),
    "no-edges": (
        changed("trn_mat_time", lambda x: [x[0], [x[1][0] * 0 if False else sp.csr_matrix((12, 30))]]),
        "single edge",
    ),
    "no-matrix": (changed("trn_mat_time", lambda x: [x[0].toarray(), x[1]]), "expected a sparse matrix"),
    "no-time": (changed("trn_mat_time", lambda x: [x[0], [x[0] * np.nan]]), "a time is not finite"),
    "nobody": (changed("tst_int", lambda x: [None] * 12), "no user has a test item"),
    "cut": ({"sequence": pickle.dumps(release()["sequence"])[:-20]}, "sequence: not a whole pickle"),
    "empty": ({"tst_int": b""}, "tst_int: not a whole pickle"),
    "text": ({"tst_int": b"hello, world\n"}, "tst_int: (a malformed|not a whole) pickle"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_files_that_do_not_fit_are_told(tmp_path: Path, case: str) -> None:
    replaced, words = MISFITS[case]
    with pytest.raises(HardGNNError, match=words) as caught:
        read_selfgnn(write(tmp_path / "r", release(), **replaced))
    assert "\n" not in str(caught.value)


def test_odd_things_are_counted(tmp_path: Path) -> None:
    objects = release()
    first = objects["test_dict"].pop(1)
    objects["test_dict"][2] = [objects["sequence"][1][0] + 1, *([first[0]] * 4)]
    objects["sequence"][5] = []
    found = read_selfgnn(write(tmp_path / "r", objects)).manifest["released"]
    assert found["test_users_without_negatives"] == 1
    assert found["fewest_negatives"] == 5
    assert found["negatives_the_user_met"] >= 1
    assert found["negatives_drawn_twice"] >= 3
    assert found["users_without_items"] == 1


class Call:
    """Pickles as a call of `what`."""

    def __init__(self, what: Any, *arguments: Any) -> None:
        self.what, self.arguments = what, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.what, self.arguments


def numpy_call(name: str, *arguments: bytes) -> bytes:
    """A protocol 2 pickle of numpy's reconstruction with handwritten arguments."""
    return b"\x80\x02cnumpy.core.multiarray\n" + name.encode() + b"\n" + b"".join(arguments) + b"."


STATE = (
    b"(K\x01%sc"
    + b"numpy\ndtype\nU\x02%sK\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89%stb"
)
EMPTY = b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
HUGE = b"\x8a\x08" + (10_000_000_000).to_bytes(8, "little")
DEEP = 400_000
# each with a word of the error that names what was refused
BOMBS: dict[str, tuple[bytes, str]] = {
    "os.system": (pickle.dumps(Call(os.system, "touch harm")), "system"),
    "eval": (pickle.dumps(Call(eval, "open('harm','w')"), 0), "eval"),
    "exec-old-name": (b"c__builtin__\nexec\n(V1\ntR.", "__builtin__.exec"),
    "getattr": (pickle.dumps(Call(getattr, 1, "real")), "getattr"),
    "subprocess": (pickle.dumps(Call(subprocess.run, ["touch", "harm"])), "subprocess.run"),
    "partial": (b"cfunctools\npartial\n(cos\nsystem\ntR.", "functools.partial"),
    "numpy-load": (b"cnumpy\nload\n(Vharm\ntR.", "numpy.load"),
    "numpy-zeros": (b"cnumpy\nzeros\n(L10000000000L\ntR.", "numpy.zeros"),
    "numpy-memmap": (b"cnumpy\nmemmap\n(Vharm\ntR.", "numpy.memmap"),
    "ndarray-called": (b"cnumpy\nndarray\n(L10000000000L\ntR.", "a call of ndarray"),
    "ndarray-new": (b"\x80\x02cnumpy\nndarray\n" + HUGE + b"\x85\x81.", "a new ndarray"),
    "dotted": (b"\x80\x04\x8c\x05numpy\x8c\x0eos.path.system\x93.", "numpy.os.path.system"),
    "newline-in-name": (b"\x80\x04\x8c\x02os\x8c\x08sys\ntem\x1b\x93.", r"os.sys\\ntem"),
    "bytearray": (pickle.dumps(Call(bytearray, 10**10), 2), "bytearray"),
    "range": (pickle.dumps(range(10**12)), "range"),
    "reduce-bomb": (
        b"\x80\x02c__builtin__\nset\n" + b"(" * 2 + b"l" + b"tR" + b"R" * 50_000 + b".",
        "malformed|a call",
    ),
    "list-repeat": (b"c_operator\nmul\n(lL10000000000L\ntR.", "_operator.mul"),
    "10-GB-array": (
        numpy_call(
            "_reconstruct", b"cnumpy\nndarray\n" + HUGE + b"\x85U\x01b\x87R", STATE % (HUGE + b"\x85", b"i8", b"U\x00")
        ),
        "declares 80000000000 bytes and has 0",
    ),
    "10-GB-objects": (numpy_call("_reconstruct", EMPTY, STATE % (HUGE + b"\x85", b"O8", b"]")), "an array of objects"),
    "minus-shape": (numpy_call("_reconstruct", EMPTY, STATE % (b"J\xff\xff\xff\xff\x85", b"i8", b"U\x00")), "shape"),
    "long-shape": (
        numpy_call(
            "_reconstruct", EMPTY, STATE % (b"\x8b" + struct.pack("<i", 40) + b"\x7f" * 40 + b"\x85", b"i8", b"U\x00")
        ),
        "shape",
    ),
    "void-dtype": (b"cnumpy\ndtype\n(VV10000000000\nI0\nI1\ntR.", "not of plain numbers"),
    "structured-dtype": (b"cnumpy\ndtype\n(Vi8,O8\nI0\nI1\ntR.", "not of plain numbers"),
    "scalar-bytes": (
        numpy_call("scalar", b"cnumpy\ndtype\nU\x02i8K\x00K\x01\x87RU\x00\x86R"),
        "declares 8 bytes and has 0",
    ),
    "object-scalar": (numpy_call("scalar", b"cnumpy\ndtype\nU\x02O8K\x00K\x01\x87RU\x00\x86R"), "dtype 'O8'"),
    "buffer": (
        b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nU\x02i8K\x00K\x01\x87R"
        + HUGE
        + b"\x85U\x01CtR.",
        "declares 80000000000 bytes",
    ),
    "state-of-a-class": (b"\x80\x02cnumpy\nndarray\n}b.", "a state that does not fit a Mark"),
    "state-of-a-list": (b"\x80\x02]}b.", "a state that does not fit a list"),
    "attributes": (b"\x80\x02cnumpy\ndtype\nU\x02i8\x85RN}U\x04text]s\x86b.", "a state that does not fit"),
    "bytes-length": (b"\x80\x04\x8e" + (10**10).to_bytes(8, "little") + b"x.", "not a whole pickle"),
    "bytearray-length": (b"\x80\x05\x96" + (10**10).to_bytes(8, "little") + b"x.", "not a whole pickle"),
    "unicode-length": (b"\x80\x04\x8d" + (10**10).to_bytes(8, "little") + b"x.", "not a whole pickle"),
    "long-length": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b"x.", "not a whole pickle"),
    "frame-length": (b"\x80\x04\x95" + (10**10).to_bytes(8, "little") + b"x.", "not a whole pickle"),
    "memo-index": (b"\x80\x02]r\xff\xff\xff\xff" + b"]p99999999999999\n" + b"c os\nsystem\n.", "os.system"),
    "recursive-list": (b"\x80\x02]q\x00h\x00a.", "a list, expected|sequence has 1 users"),
    "deep-list": (b"\x80\x02" + b"]" * DEEP + b"a" * (DEEP - 1) + b".", "sequence has 1 users"),
    "deep-tuple": (b"\x80\x02)" + b"\x85" * DEEP + b".", "sequence has 1 users"),
    "deep-key": (b"\x80\x02})" + b"\x85" * DEEP + b"Ns.", "a key of type tuple"),
    "deep-set": (b"\x80\x04\x8f()" + b"\x85" * DEEP + b"\x90.", "a key of type tuple"),
    "laughs": (
        b"\x80\x02](" + b"]q\x00(" + b"K\x01" * 50_000 + b"e" + b"h\x00" * 50_000 + b"e.",
        "more than .* bytes|users",
    ),
    "extension": (b"\x80\x02\x82\x01.", "extension"),
    "persistent": (b"Pharm\n.", "not a whole pickle"),
    "unknown-opcode": (b"\x80\x02\xfe.", "malformed"),
    "no-stop": (b"\x80\x02]", "not a whole pickle"),
    "stack-underflow": (b"\x80\x02R.", "malformed"),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What one process with 400 MiB of free address space says to each bomb, in place of `sequence`."""
    place = tmp_path_factory.mktemp("bombs")
    for name, (data, _) in BOMBS.items():
        write(place / name, release(), sequence=data)
    script = (
        "import json, resource, sys\n"
        "from pathlib import Path\n"
        "from hardgnn.prepare.released.selfgnn import read_selfgnn\n"
        "from hardgnn.errors import HardGNNError\n"
        "used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (used + (400 << 20),) * 2)\n"
        "said = {}\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        read_selfgnn(name)\n"
        "        said[name] = 'read without a word'\n"
        "    except HardGNNError as error:\n"
        "        said[name] = str(error)\n"
        "said['peak'] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(json.dumps(said))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(hardgnn.__file__).parents[1])}
    command = [sys.executable, "-c", script, *BOMBS]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert not list(place.rglob("harm"))
    return json.loads(done.stdout)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs Linux' account of the address space")
@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_without_harm(told: dict[str, str], name: str) -> None:
    words = BOMBS[name][1]
    assert re.search(words, told[name]), told[name]
    assert "\n" not in told[name]
    assert "MemoryError" not in told[name]


def test_every_released_file_is_read_in_this_way(tmp_path: Path) -> None:
    for name in FILES:
        with pytest.raises(HardGNNError, match=f"{name}: refused: posix.system"):
            read_selfgnn(write(tmp_path / "r", release(), **{name: pickle.dumps(Call(os.system, "touch harm"))}))


def test_damaged_pickles_are_read_or_told_in_one_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pickled = [{name: pickle.dumps(content, protocol) for name, content in release().items()} for protocol in range(6)]
    told = []
    for _ in range(150):
        files = dict(pickled[rng.integers(6)])
        name = FILES[rng.integers(4)]
        data = bytearray(files[name])
        for place in rng.integers(len(data), size=rng.integers(1, 6)):
            data[place : place + rng.integers(2)] = rng.bytes(rng.integers(3))
        try:
            read_selfgnn(write(tmp_path / "r", files | {name: bytes(data)}))
        except HardGNNError as error:
            told.append(str(error))
    assert len(told) > 50
    assert not any("\n" in one for one in told)


FIXTURES = sorted((Path(__file__).resolve().parents[3] / "shared" / "parity").glob("*.npz"))


@pytest.mark.skipif(not FIXTURES, reason="no ../shared/parity beside this checkout")
@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_what_the_released_loader_was_fed_is_read_as_it_was(fixture: Path, tmp_path: Path) -> None:
    with np.load(fixture, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files if name.startswith(("data/", "in/adj", "meta"))}
    meta = json.loads(str(arrays["meta_json"]))
    shape, intervals = (meta["users"], meta["items"]), meta["intervals"]
    edges = [[arrays[f"in/adj_{t}_{what}"] for what in ("times", "users", "items")] for t in range(intervals)]
    graphs = [sp.csr_matrix((time, (user, item)), shape) for time, user, item in edges]
    lists = np.split(arrays["data/sequence_flat"], arrays["data/sequence_offsets"][1:-1])
    test, users = arrays["data/test_item"], arrays["data/test_users"]
    objects = {
        "sequence": [one.tolist() for one in lists],
        "tst_int": [None if one < 0 else int(one) for one in test],
        "test_dict": {int(u) + 1: (row + 1).tolist() for u, row in zip(users, arrays["data/test_negatives"])},
        "trn_mat_time": [graphs[0], graphs, graphs[0]],
    }
    data = read_selfgnn(write(tmp_path / "r", objects))
    for user, (items, target) in enumerate(zip(lists, test)):
        expected = [*items.tolist(), *([target] if target >= 0 else [])]
        assert data.item[data.user == user].tolist() == expected
    np.testing.assert_array_equal(data.candidates.users, users)
    np.testing.assert_array_equal(data.candidates.items, arrays["data/test_negatives"])
    found = data.manifest["released"]
    assert (found["test_items_in_sequence"], found["graph_edges"]) == (0, sum(len(time) for time, *_ in edges))
    assert (found["edges_only_in_our_graphs"], found["edges_only_in_released_graphs"]) == (0, 0)


@pytest.mark.parametrize("opcode", [b"]", b"}", b"\x8f", b"(", b"\x94", b"h\x00)\x81"])
def test_many_small_objects_do_not_eat_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opcode: bytes
) -> None:
    monkeypatch.setattr(pickles, "FREE_BYTES", 0)
    path = tmp_path / "bomb"
    path.write_bytes(b"\x80\x04cscipy.sparse._csr\ncsr_matrix\n\x94" + opcode * 20_000 + b".")
    with pytest.raises(HardGNNError, match="far more memory than the file is long|nested more than 1000 deep"):
        load_pickle(path)


def test_a_matrix_named_again_and_again_does_not_eat_the_memory(tmp_path: Path) -> None:
    objects = release()
    whole, parts, numbers = objects["trn_mat_time"]
    folder = write(tmp_path / "r", objects, trn_mat_time=[whole, [parts[0]] * 900, numbers])
    with pytest.raises(HardGNNError, match="the intervals have more edges than .* bytes can hold"):
        read_selfgnn(folder)
    write(folder, objects, trn_mat_time=[whole, [parts[0]] * 2000, numbers])
    with pytest.raises(HardGNNError, match="2000 intervals are more than 1000"):
        read_selfgnn(folder)
