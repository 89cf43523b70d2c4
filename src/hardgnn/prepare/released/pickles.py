"""Pickles as untrusted input: numbers, strings, containers, numpy arrays and scipy sparse matrices, nothing else.

No callable and no class of numpy or scipy is ever put on the unpickler's stack. What a pickle names is looked up among
`ADMITTED` and becomes a mark; arrays and matrices are put together here, from bytes that the file really holds.
The unpickler is Python's own in pure Python: the one in C keeps its memo in an array as long as the largest index.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from hardgnn.errors import HardGNNError, reading, shown

DTYPE = re.compile(r"[biuf][1248]")
PLAIN = (int, float, str, bytes, bool, type(None))
SPARSE = ("csr", "csc", "coo")
# the memory that a file may need: so much, and so many times its size; and what objects take, some bytes of a file each
FREE_BYTES, SWELLING = 64 << 20, 30
LIST_BYTES, SET_BYTES, MEMO_BYTES, OBJECT_BYTES = 64, 256, 100, 200
DEEPEST = 1000


class Refused(Exception):
    """Says what in a pickle is not admitted, or does not fit together."""


@dataclass(frozen=True)
class Mark:
    """Stands for an admitted name of a pickle; it cannot be called and has no attributes to set."""

    kind: str


ADMITTED: dict[tuple[str, str], Mark] = {
    ("numpy", "ndarray"): Mark("ndarray"),
    ("numpy", "dtype"): Mark("dtype"),
    ("_codecs", "encode"): Mark("encode"),  # how protocols 0 to 2 write bytes
    ("copy_reg", "_reconstructor"): Mark("new"),
    ("copyreg", "_reconstructor"): Mark("new"),
}
for _core in ("numpy.core", "numpy._core"):  # before and since numpy 2
    ADMITTED[f"{_core}.multiarray", "_reconstruct"] = Mark("array")
    ADMITTED[f"{_core}.multiarray", "scalar"] = Mark("scalar")
    ADMITTED[f"{_core}.numeric", "_frombuffer"] = Mark("buffer")
for _module in ("builtins", "__builtin__"):
    ADMITTED[_module, "object"] = Mark("object")
    ADMITTED[_module, "bytes"] = Mark("bytes")
    ADMITTED[_module, "set"] = Mark("set")
    ADMITTED[_module, "frozenset"] = Mark("set")
for _form in SPARSE:
    for _module in (f"scipy.sparse.{_form}", f"scipy.sparse._{_form}"):  # before and since scipy 1.8
        ADMITTED[_module, f"{_form}_matrix"] = Mark(_form)
        ADMITTED[_module, f"{_form}_array"] = Mark(_form)


@dataclass
class PickledDtype:
    """A dtype on its way: kind and size, then the byte order."""

    text: str
    order: str = "="

    @property
    def numpy(self) -> np.dtype[Any]:
        """The dtype of numbers that it is.

        Raises:
            Refused: it is of objects, which an array of numbers cannot have.
        """
        if not DTYPE.fullmatch(self.text):
            raise Refused(f"numbers of dtype {self.text!r} are not admitted")
        return np.dtype(f"{self.order}{self.text}")


@dataclass
class PickledArray:
    """An array on its way. Afterwards `values` is an array of numbers, or a list where the dtype was object."""

    values: NDArray[Any] | list[Any] | None = None


@dataclass
class PickledSparse:
    """A sparse matrix on its way: its form and the attributes it was pickled with."""

    form: str
    state: dict[str, Any] = field(default_factory=dict)


def load_pickle(path: Path) -> Any:
    """The object in a pickle, with `PickledArray` and `PickledSparse` in place of arrays and matrices.

    Memory is bounded by the size of the file: nothing is allocated for a length that only the pickle claims.

    Raises:
        HardGNNError: the file is missing, no pickle, truncated, or holds anything else; names the class.
    """
    where = shown(path)
    with reading(where), path.open("rb") as file:
        try:
            return _Unpickler(_Bounded(file, path.stat().st_size), encoding="latin-1").load()
        except Refused as error:
            raise HardGNNError(f"{where}: refused: {error}") from None
        except (pickle.UnpicklingError, EOFError) as error:
            raise HardGNNError(f"{where}: not a whole pickle ({_plain_words(error)})") from None
        except (OSError, MemoryError):
            raise
        except Exception as error:  # a malformed pickle can make the unpickler raise nearly anything
            raise HardGNNError(f"{where}: a malformed pickle ({type(error).__name__}: {_plain_words(error)})") from None


def _plain_words(error: Exception) -> str:
    """The words of an error, which may quote the file, on one short line."""
    return ascii(str(error))[1:-1][:100]


class _Bounded:
    """A file that is not asked for more bytes than it has left."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file, self.size = file, size
        self.readline = file.readline

    def read(self, count: int) -> bytes:
        if count > self.size - self.file.tell():
            raise EOFError(f"{count} bytes are declared, {self.size - self.file.tell()} are left")
        return self.file.read(count)


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]  # not in the stubs


class _Unpickler(_PythonUnpickler):
    """Python's unpickler, with every step that makes or changes an object replaced."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, file: _Bounded, **options: Any) -> None:
        super().__init__(file, **options)
        self.left = FREE_BYTES + SWELLING * file.size

    def charge(self, size: int) -> None:
        """Takes the memory of a new object from what a file of this size may need."""
        self.left -= size
        if self.left < 0:
            raise Refused("objects that take far more memory than the file is long")

    def load_mark(self) -> None:
        if len(self.metastack) > DEEPEST:
            raise Refused(f"containers nested more than {DEEPEST} deep")
        super().load_mark()

    def load_memoize(self) -> None:
        self.charge(MEMO_BYTES)
        super().load_memoize()

    def load_empty_list(self) -> None:
        self.charge(LIST_BYTES)
        self.append([])

    def load_empty_dictionary(self) -> None:
        self.charge(LIST_BYTES)
        self.append({})

    def load_empty_set(self) -> None:
        self.charge(SET_BYTES)
        self.append(set())

    def find_class(self, module: str, name: str) -> Mark:
        mark = ADMITTED.get((module, name))
        if mark is None:
            told = ascii(f"{module}.{name}")[1:-1][:100]
            raise Refused(
                f"{told} is neither a numpy array, a scipy sparse matrix ({', '.join(SPARSE)}) nor a container"
            )
        return mark

    def load_reduce(self) -> None:
        self.charge(OBJECT_BYTES)
        arguments = self.stack.pop()
        self.stack[-1] = _make(self.stack[-1], arguments)

    def load_newobj(self) -> None:
        self.charge(OBJECT_BYTES)
        arguments = self.stack.pop()
        self.stack[-1] = _new(self.stack[-1], arguments)

    def load_newobj_ex(self) -> None:
        self.charge(OBJECT_BYTES)
        named, arguments = self.stack.pop(), self.stack.pop()
        if named:
            raise Refused("an object made with named arguments")
        self.stack[-1] = _new(self.stack[-1], arguments)

    def load_build(self) -> None:
        state = self.stack.pop()
        _set_state(self.stack[-1], state)

    def load_refused(self) -> None:
        raise Refused("an object of an old-style class or of the extension registry")

    def load_bytearray8(self) -> None:
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    # a deep tuple as a key would overflow the C stack when it is hashed, so only plain values may be keys

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append(dict(zip(_keys(items[::2]), items[1::2])))

    def load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _container(self.stack[-1], dict)[_keys([key])[0]] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        _container(self.stack[-1], dict).update(zip(_keys(items[::2]), items[1::2]))

    def load_append(self) -> None:
        value = self.stack.pop()
        _container(self.stack[-1], list).append(value)

    def load_appends(self) -> None:
        items = self.pop_mark()
        _container(self.stack[-1], list).extend(items)

    def load_additems(self) -> None:
        items = self.pop_mark()
        _container(self.stack[-1], set).update(_keys(items))

    def load_frozenset(self) -> None:
        self.charge(SET_BYTES)
        items = self.pop_mark()  # which sets append to the stack below
        self.append(frozenset(_keys(items)))

    for _opcode, _step in {
        pickle.MARK: load_mark,
        pickle.MEMOIZE: load_memoize,
        pickle.EMPTY_LIST: load_empty_list,
        pickle.EMPTY_DICT: load_empty_dictionary,
        pickle.EMPTY_SET: load_empty_set,
        pickle.REDUCE: load_reduce,
        pickle.NEWOBJ: load_newobj,
        pickle.NEWOBJ_EX: load_newobj_ex,
        pickle.BUILD: load_build,
        pickle.BYTEARRAY8: load_bytearray8,
        pickle.DICT: load_dict,
        pickle.SETITEM: load_setitem,
        pickle.SETITEMS: load_setitems,
        pickle.APPEND: load_append,
        pickle.APPENDS: load_appends,
        pickle.ADDITEMS: load_additems,
        pickle.FROZENSET: load_frozenset,
        **dict.fromkeys((pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4), load_refused),
    }.items():
        dispatch[_opcode[0]] = _step


def _keys(values: list[Any]) -> list[Any]:
    """Values that may be keys, unchanged."""
    for value in values:
        if type(value) not in PLAIN:
            raise Refused(f"a key of type {type(value).__name__}; keys are numbers or strings")
    return values


def _container(target: Any, kind: type) -> Any:
    """A container that is about to be filled, unchanged."""
    if type(target) is not kind:
        raise Refused(f"items are added to a {type(target).__name__}")
    return target


def _make(what: Any, arguments: Any) -> Any:
    """What calling an admitted name makes."""
    if not isinstance(what, Mark) or type(arguments) is not tuple:
        raise Refused(f"a call of a {what.kind if isinstance(what, Mark) else type(what).__name__}")
    match what.kind, arguments:
        case "array", (Mark("ndarray"), _, _):  # the shape and the bytes come with the state
            return PickledArray()
        case "buffer", (bytes() | bytearray() as data, PickledDtype() as dtype, shape, "C" | "F" as order):
            return PickledArray(_array(data, dtype, shape, order))
        case "scalar", (PickledDtype() as dtype, data):
            return _array(_as_bytes(data), dtype, (), "C").item()
        case "dtype", (str() as text, *_):
            return _dtype(text)
        case "encode", (str() as text, "latin1" | "latin-1"):
            return text.encode("latin-1")
        case "bytes", ():
            return b""
        case "set", ([*items],):
            return set(_keys(items))
        case "new", (Mark() as made, Mark("object"), None):
            return _new(made, ())
    raise Refused(f"a call of {what.kind} with arguments that do not fit")


def _dtype(text: str) -> PickledDtype:
    """A dtype of numbers, or of objects, as arrays of lists have it."""
    if not (DTYPE.fullmatch(text) or re.fullmatch(r"O[48]?", text)):
        raise Refused(f"numpy.dtype({ascii(text)[:40]}) is not of plain numbers")
    return PickledDtype(text)


def _new(what: Any, arguments: Any) -> PickledSparse:
    """A new sparse matrix, the only thing that may be made without a call."""
    if isinstance(what, Mark) and what.kind in SPARSE and arguments == ():
        return PickledSparse(what.kind)
    raise Refused(f"a new {what.kind if isinstance(what, Mark) else type(what).__name__}")


def _set_state(target: Any, state: Any) -> None:
    """Gives an array, a dtype or a sparse matrix its content."""
    match target, state:
        case PickledSparse(), dict():
            target.state = state
        case PickledDtype(), (_, "<" | ">" | "=" | "|" as order, None, None, None, *_):
            target.order = order
        case PickledArray(), (_, tuple() as shape, PickledDtype(text=text), _, list() as items) if text[0] == "O":
            if shape != (len(items),):
                raise Refused(f"an array of objects with {len(items)} items and another shape")
            target.values = items
        case PickledArray(), (_, shape, PickledDtype() as dtype, fortran, data):
            target.values = _array(_as_bytes(data), dtype, shape, "F" if fortran else "C")
        case _:
            raise Refused(f"a state that does not fit a {type(target).__name__}")


def _as_bytes(data: Any) -> bytes:
    """The bytes of an array; Python 2 wrote them as text."""
    if isinstance(data, str):
        data = data.encode("latin-1")
    if not isinstance(data, bytes):
        raise Refused(f"numbers out of a {type(data).__name__}")
    return data


def _array(data: bytes | bytearray, dtype: PickledDtype, shape: Any, order: str) -> NDArray[Any]:
    """An array over bytes that are there already; copies nothing."""
    kind = dtype.numpy
    if not is_shape(shape) or len(shape) > 2:
        raise Refused("an array of a shape that is not one or two numbers")
    if math.prod(shape) * kind.itemsize != len(data):
        raise Refused(f"an array that declares {math.prod(shape) * kind.itemsize} bytes and has {len(data)}")
    return np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")


def is_shape(shape: Any) -> bool:
    """Whether it is a tuple of sizes that memory could have; longer numbers would be slow to multiply."""
    return type(shape) is tuple and all(type(size) is int and 0 <= size < 1 << 62 for size in shape)
