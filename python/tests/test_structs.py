"""The ctypes mirrors against the C headers: a C program prints every size, offset and constant."""

import ctypes
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

from dgrt import _c, _c_mla

INCLUDE = pathlib.Path(__file__).resolve().parent.parent.parent / "include"
STRUCTS = {**_c.STRUCTS, **_c_mla.STRUCTS}
HEADERS = ("dgrt.h", "gemm.h", "hyper.h", "attention.h", "mla.h", "indexer.h")
COMPILER = next((c for c in ("cc", "gcc", "clang") if shutil.which(c)), None)


def expected():
    """Lines that the C program must print: from the mirrors."""
    for name, mirror in STRUCTS.items():
        yield f"{name} {ctypes.sizeof(mirror)}"
        for field in mirror._fields_:
            offset = getattr(mirror, field[0])
            yield f"{name}.{field[0]} {offset.offset} {offset.size}"
    for name, value in _c.CONSTANTS.items():
        yield f"DGRT_{name} {value}"


def c_program():
    lines = ["#include <stdio.h>", *(f'#include "dgrt/{name}"' for name in HEADERS), "int main(void) {"]
    for name, mirror in STRUCTS.items():
        lines.append(f'  printf("{name} %zu\\n", sizeof({name}));')
        for field in mirror._fields_:
            lines.append(f'  printf("{name}.{field[0]} %zu %zu\\n", offsetof({name}, {field[0]}), '
                         f"sizeof((({name}*)0)->{field[0]}));")
    for name in _c.CONSTANTS:
        lines.append(f'  printf("DGRT_{name} %d\\n", (int)DGRT_{name});')
    return "\n".join(lines + ["  return 0;", "}", ""])


@unittest.skipIf(COMPILER is None, "no C compiler")
class Structs(unittest.TestCase):
    def test_mirrors_match_the_headers(self):
        with tempfile.TemporaryDirectory() as folder:
            source = pathlib.Path(folder) / "sizes.c"
            source.write_text(c_program())
            program = pathlib.Path(folder) / "sizes"
            subprocess.run([COMPILER, "-std=c11", f"-I{INCLUDE}", str(source), "-o", str(program)],
                           check=True)
            printed = subprocess.run([str(program)], check=True, capture_output=True, text=True)
        self.assertEqual(printed.stdout.splitlines(), list(expected()))

    def test_no_public_struct_or_call_is_left_out(self):
        text = "".join((INCLUDE / "dgrt" / name).read_text() for name in HEADERS)
        structs = set(re.findall(r"^} (dgrt_\w+);", text, re.M)) - {"dgrt_symm_options"}
        self.assertEqual(structs, set(STRUCTS))
        calls = set(re.findall(r"^DGRT_API [\w ]+[ *]+(dgrt_\w+)\(", text, re.M))
        calls -= {"dgrt_symm_create", "dgrt_symm_destroy"}  # no op of this version uses one
        self.assertEqual(calls, set(_c.PROTOTYPES))


if __name__ == "__main__":
    unittest.main()
