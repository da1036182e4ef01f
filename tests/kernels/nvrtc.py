"""NVIDIA's run-time compiler, which needs no GPU and no driver, from the package nvidia-cuda-nvrtc-cu12."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


def library() -> ctypes.CDLL | None:
    """libnvrtc, or None where the package is not installed."""
    try:
        spec = find_spec("nvidia.cuda_nvrtc")
    except ModuleNotFoundError:
        spec = None
    places = spec.submodule_search_locations if spec else []
    found = [path for place in places for path in Path(place).glob("lib/libnvrtc.so.*[0-9]")]
    return ctypes.CDLL(str(found[0])) if found else None


class Compiler:
    def __init__(self, lib: ctypes.CDLL):
        self.lib = lib

    def compile(self, source: str, expressions: Sequence[str], options: Sequence[str],
                kind: str = "CUBIN") -> bytes:
        """The machine code (CUBIN) or assembly (PTX) of the kernels named; AssertionError with the log."""
        program = ctypes.c_void_p()
        self._call("CreateProgram", ctypes.byref(program), source.encode(), b"kernels.cu", 0, None, None)
        for expression in expressions:
            self._call("AddNameExpression", program, expression.encode())
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = self.lib.nvrtcCompileProgram(program, len(options), given)
        log = self._text(program, "ProgramLog").decode()
        assert status == 0 and not log, log  # a warning is an error
        for expression in expressions:
            name = ctypes.c_char_p()
            self._call("GetLoweredName", program, expression.encode(), ctypes.byref(name))
            assert name.value
        code = self._text(program, kind)
        self._call("DestroyProgram", ctypes.byref(program))
        return code

    def _text(self, program: ctypes.c_void_p, what: str) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"Get{what}Size", program, ctypes.byref(size))
        text = ctypes.create_string_buffer(size.value)
        self._call(f"Get{what}", program, text)
        return text.raw.rstrip(b"\0")

    def _call(self, name: str, *arguments) -> None:
        status = getattr(self.lib, f"nvrtc{name}")(*arguments)
        assert status == 0, f"nvrtc{name} returned {status}"


class Resources(NamedTuple):
    """What a thread or a block of a kernel takes, beside the shared memory that is asked for at its launch."""

    registers: int
    stack: int  # bytes of a thread's registers that went to memory, and of its arrays
    shared: int  # bytes of a block


def resources(cubin: bytes) -> dict[str, Resources]:
    """Mangled name -> what the kernel takes, from an ELF file: its sections, and the attributes in .nv.info.

    Functions that a kernel calls, such as the exact division, are there too, but only kernels count registers.
    """
    unpack = lambda form, at: struct.unpack_from("<" + form, cubin, at)
    (table,), (size, count, names) = unpack("Q", 40), unpack("HHH", 58)
    heads = [unpack("IIQQQQIIQQ", table + k * size) for k in range(count)]  # Elf64_Shdr
    text = lambda section, at: cubin[heads[section][4] + at :].split(b"\0", 1)[0].decode()
    sections = {text(names, head[0]): head for head in heads}
    symbols = sections[".symtab"]
    symbol = lambda k: text(symbols[6], unpack("I", symbols[4] + 24 * k)[0])
    found: dict[str, dict[int, int]] = {}
    at, end = sections[".nv.info"][4], sum(sections[".nv.info"][4:6])
    while at < end:
        kind, attribute, length = unpack("BBH", at)
        at += 4
        if kind == 4:  # with a value of `length` bytes, here (symbol, number)
            if attribute in (FRAME_SIZE, REGCOUNT):
                number, value = unpack("II", at)
                found.setdefault(symbol(number), {})[attribute] = value
            at += length
    kernels = {name: values for name, values in found.items() if REGCOUNT in values}
    shared = {name: sections.get(f".nv.shared.{name}", [0] * 10)[5] for name in kernels}
    return {name: Resources(values[REGCOUNT], values[FRAME_SIZE], shared[name]) for name, values in kernels.items()}


FRAME_SIZE, REGCOUNT = 0x11, 0x2F  # EIATTR_FRAME_SIZE, EIATTR_REGCOUNT
