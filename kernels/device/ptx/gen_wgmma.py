#!/usr/bin/env python3
"""Writes the wgmma_*.gen.cuh files beside itself: one wrapper per N, because inline assembly needs its operand list
spelled out. Only the N that kernels use: every wrapper costs parse time."""
import pathlib

SHAPES = [8, 16, 24, *range(32, 257, 16)]
# Of products whose first operand lies in registers: columns of a value tile of attention.
REGISTER_SHAPES = [64, 96, 128, 192, 256]
LINK = "https://docs.nvidia.com/cuda/parallel-thread-execution/#asynchronous-warpgroup-level-matrix-instructions-wgmma-mma"


def wrapper(name, shape_k, types, n):
    """16-bit types may lie MN-major in shared memory: two more immediates."""
    regs = n // 2
    majors = shape_k == 16
    head = "template <int x_mn = 0, int y_mn = 0> " if majors else ""
    tail = f"1, 1, %{regs + 3}, %{regs + 4}" if majors else "1, 1"
    ins = '"l"(a), "l"(b), "r"(accumulate)' + (', "n"(x_mn), "n"(y_mn)' if majors else "")
    d = ",".join(f"%{i}" for i in range(regs))
    outs = ",".join(f'"+f"(d[{i}])' for i in range(regs))
    return (
        f"template <> struct {name}<{n}> {{\n"
        f"  {head}static __device__ __forceinline__ void mma(float (&d)[{regs}], uint64_t a, uint64_t b, uint32_t accumulate) {{\n"
        f'    asm volatile("{{.reg .pred p; setp.ne.b32 p, %{regs + 2}, 0;"\n'
        f'      "wgmma.mma_async.sync.aligned.m64n{n}k{shape_k}.f32.{types} {{{d}}}, %{regs}, %{regs + 1}, p, {tail};}}"\n'
        f'      : {outs} : {ins});\n'
        f"  }}\n}};\n"
    )


def register_wrapper(name, types, n):
    """The first operand in four registers, the second MN-major in shared memory."""
    regs = n // 2
    d = ",".join(f"%{i}" for i in range(regs))
    outs = ",".join(f'"+f"(d[{i}])' for i in range(regs))
    a = ",".join(f"%{regs + i}" for i in range(4))
    return (
        f"template <> struct {name}<{n}> {{\n"
        f"  static __device__ __forceinline__ void mma(float (&d)[{regs}], const uint32_t* a, uint64_t b) {{\n"
        f'    asm volatile("wgmma.mma_async.sync.aligned.m64n{n}k16.f32.{types} {{{d}}}, {{{a}}}, %{regs + 4}, 1, 1, 1, 1;"\n'
        f'      : {outs} : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));\n'
        f"  }}\n}};\n"
    )


def write_register(file, name, types):
    text = (
        f"// Written by gen_wgmma.py. d += a b, wgmma.mma_async m64nNk16, {types}: a in registers, b MN-major in shared memory.\n"
        f"// {LINK}\n#pragma once\n#include \"device/common/interface.cuh\"\nnamespace dgrt::ptx {{\n"
        f"template <uint32_t n> struct {name};\n"
    )
    text += "".join(register_wrapper(name, types, n) for n in REGISTER_SHAPES)
    text += "}  // namespace dgrt::ptx\n"
    (pathlib.Path(__file__).parent / file).write_text(text)


def write(file, name, shape_k, types):
    text = (
        f"// Written by gen_wgmma.py. wgmma.mma_async m64nNk{shape_k}, {types}, both operands in shared memory.\n"
        f"// {LINK}\n#pragma once\n#include \"device/common/interface.cuh\"\nnamespace dgrt::ptx {{\n"
        f"template <uint32_t n> struct {name};\n"
    )
    text += "".join(wrapper(name, shape_k, types, n) for n in SHAPES)
    text += "}  // namespace dgrt::ptx\n"
    (pathlib.Path(__file__).parent / file).write_text(text)


write("wgmma_e4m3.gen.cuh", "WgmmaE4m3", 32, "e4m3.e4m3")
write("wgmma_bf16.gen.cuh", "WgmmaBf16", 16, "bf16.bf16")
write("wgmma_fp16.gen.cuh", "WgmmaFp16", 16, "f16.f16")
write_register("wgmma_register_bf16.gen.cuh", "WgmmaRegisterBf16", "bf16.bf16")
write_register("wgmma_register_fp16.gen.cuh", "WgmmaRegisterFp16", "f16.f16")
