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


def named(struct, prefix, count, body):
    lines = lambda form: "".join(form.format(r=f"{prefix}{i}", i=i, by=i // 2 % 2) for i in range(count))
    outs = ",".join(f'"=f"(to[{i}])' for i in range(count))
    read = lines("mov.f32 %{i}, {r};")
    return (
        f"struct {struct} {{\n  static constexpr uint32_t count = {count};\n\n"
        f"  // Once in a kernel, in front of all branches.\n"
        f'  static __device__ __forceinline__ void declare() {{ asm volatile(".reg .f32 {prefix}<{count}>;"); }}\n'
        f"  static __device__ __forceinline__ void read(float (&to)[count]) {{\n"
        f'    asm volatile("{read}" : {outs});\n  }}\n' + body(lines, ",".join(f"{prefix}{i}" for i in range(count))) + "};\n"
    )


def named_scores(count):
    def body(lines, d):
        text = ""
        for dtype, types in (("bf16", "bf16.bf16"), ("fp16", "f16.f16")):
            text += (
                f"  static __device__ __forceinline__ void product_{dtype}(uint64_t a, uint64_t b, uint32_t accumulate) {{\n"
                f'    asm volatile("{{.reg .pred p; setp.ne.b32 p, %2, 0;"\n'
                f'      "wgmma.mma_async.sync.aligned.m64n{count * 2}k16.f32.{types} {{{d}}}, %0, %1, p, 1, 1, 0, 0;}}"\n'
                f'      :: "l"(a), "l"(b), "r"(accumulate));\n  }}\n'
            )
        return text + (
            "  // d = a b, or added to d: both in shared memory, K-major.\n"
            "  template <int dtype> static __device__ __forceinline__ void product(uint64_t a, uint64_t b, bool accumulate) {\n"
            "    if constexpr (dtype == dtype_fp16) product_fp16(a, b, accumulate);\n    else product_bf16(a, b, accumulate);\n  }\n"
        )

    return named("NamedScores", "score", count, body)


def named_sums(count):
    def body(lines, d):
        zeros, scaled = lines("mov.f32 {r}, 0f00000000;"), lines("mul.f32 {r}, {r}, %{by};")
        text = (
            f'  static __device__ __forceinline__ void clear() {{\n    asm volatile("{zeros}");\n  }}\n'
            f"  // Of the thread's two rows.\n"
            f"  static __device__ __forceinline__ void scale(const float (&by)[2]) {{\n"
            f'    asm volatile("{scaled}" :: "f"(by[0]), "f"(by[1]));\n  }}\n'
        )
        for dtype, types in (("bf16", "bf16.bf16"), ("fp16", "f16.f16")):
            head = f"  static __device__ __forceinline__ void add_{dtype}"
            product = f'    asm volatile("wgmma.mma_async.sync.aligned.m64n{count * 2}k16.f32.{types} {{{d}}}'
            text += (
                f"{head}(const uint32_t* a, uint64_t b) {{\n{product}, {{%0,%1,%2,%3}}, %4, 1, 1, 1, 1;\"\n"
                f'      :: "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));\n  }}\n'
                f'{head}(uint64_t a, uint64_t b) {{\n{product}, %0, %1, 1, 1, 1, 0, 1;" :: "l"(a), "l"(b));\n  }}\n'
            )
        return text + (
            "  // d += a b: a in registers or K-major in shared memory, b MN-major there.\n"
            "  template <int dtype, class A> static __device__ __forceinline__ void add(A a, uint64_t b) {\n"
            "    if constexpr (dtype == dtype_fp16) add_fp16(a, b);\n    else add_bf16(a, b);\n  }\n"
        )

    return named("NamedSums", "sum", count, body)


def write_named(file, num_scores, num_sums):
    text = (
        "// Written by gen_wgmma.py. Results of products, wgmma.mma_async m64nNk16, that have names in PTX and are no variables: the\n"
        "// compiler passes each of a product's operands through every branch and loop, which takes longer than most of what it\n"
        "// does. These statements keep their order, so that nothing moves across the asynchronous products; see\n"
        "// issue_described_product() for which element is whose.\n"
        f"// {LINK}\n#pragma once\n#include \"device/common/gemm_params.cuh\"\nnamespace dgrt::ptx {{\n"
    )
    text += named_scores(num_scores) + named_sums(num_sums) + "}  // namespace dgrt::ptx\n"
    (pathlib.Path(__file__).parent / file).write_text(text)


write("wgmma_e4m3.gen.cuh", "WgmmaE4m3", 32, "e4m3.e4m3")
write("wgmma_bf16.gen.cuh", "WgmmaBf16", 16, "bf16.bf16")
write("wgmma_fp16.gen.cuh", "WgmmaFp16", 16, "f16.f16")
write_register("wgmma_register_bf16.gen.cuh", "WgmmaRegisterBf16", "bf16.bf16")
write_register("wgmma_register_fp16.gen.cuh", "WgmmaRegisterFp16", "f16.f16")
write_named("wgmma_named.gen.cuh", 32, 128)
