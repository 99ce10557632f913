"""Device timing in torch's process, the way dgrt and its peers are both timed.

Before every repeat a 512 MB buffer is *read*: L2 is cold and holds no dirty lines (a memset would leave
some, whose write-back taxes what follows). Then event, call, event, with the queue kept full so that no
launch gap of the host is measured. Calls are interleaved repeat by repeat and start in turn, because
clocks float with power and with what ran just before. Median and 10th and 90th percentile."""

import ctypes
import statistics

import torch

FLUSH_BYTES = 512 << 20
GRAPH_CALLS = 20
EMPTY_PTX = b""".version 8.0
.target sm_90
.address_size 64
.visible .entry empty() { ret; }
"""


def summary(samples_us):
    ordered = sorted(samples_us)
    last = len(ordered) - 1
    return {"us": round(statistics.median(ordered), 3), "p10": round(ordered[round(0.1 * last)], 3),
            "p90": round(ordered[round(0.9 * last)], 3)}


def event_pairs(count):
    return [tuple(torch.cuda.Event(enable_timing=True) for _ in range(2)) for _ in range(count)]


def elapsed_us(pairs):
    return [begin.elapsed_time(end) * 1e3 for begin, end in pairs]


class EmptyKernel:
    """An empty kernel of 132 x 384 threads, through the driver: the floor of any event-timed figure."""

    def __init__(self):
        torch.zeros(1, device="cuda")  # torch's context is current from here on
        self._cuda = ctypes.CDLL("libcuda.so.1")
        module, self._function = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self._cuda.cuModuleLoadData(ctypes.byref(module), EMPTY_PTX))
        self._check(self._cuda.cuModuleGetFunction(ctypes.byref(self._function), module, b"empty"))

    @staticmethod
    def _check(result):
        if result != 0:
            raise RuntimeError(f"CUDA driver error {result}")

    def __call__(self):
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self._check(self._cuda.cuLaunchKernel(self._function, 132, 1, 1, 384, 1, 1, 0, stream, None,
                                              None))


class CleanTimer:
    def __init__(self, repeats=40):
        self.repeats = repeats
        self._flush = torch.randn(FLUSH_BYTES // 4, device="cuda")

    def interleaved(self, calls):
        """{name: call} -> {name: summary}."""
        names = list(calls)
        for name in names:
            for _ in range(3):
                calls[name]()
        events = {name: event_pairs(self.repeats) for name in names}
        torch.cuda.synchronize()
        torch.cuda._sleep(2_000_000)  # about 1 ms: the host runs ahead from the first repeat on
        for repeat in range(self.repeats):
            shift = repeat % len(names)
            for name in names[shift:] + names[:shift]:
                torch.sum(self._flush)
                begin, end = events[name][repeat]
                begin.record()
                calls[name]()
                end.record()
        torch.cuda.synchronize()
        return {name: summary(elapsed_us(events[name])) for name in names}

    def graph(self, call, replays=10):
        """Median time of one call of GRAPH_CALLS captured in a CUDA graph: warm L2, no launch gaps."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            call()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(GRAPH_CALLS):
                call()
        graph.replay()
        pairs = event_pairs(replays)
        for begin, end in pairs:
            begin.record()
            graph.replay()
            end.record()
        torch.cuda.synchronize()
        return round(summary(elapsed_us(pairs))["us"] / GRAPH_CALLS, 3)


def yardsticks(timer):
    """What this device reaches today: large products of torch, and a device-to-device copy."""
    size = 8192
    a = torch.randn(size, size, device="cuda").bfloat16()
    b = torch.randn(size, size, device="cuda").bfloat16()
    a8, b8 = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
    one = torch.ones((), device="cuda")
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    times = timer.interleaved({
        "bf16": lambda: torch.mm(a, b.t()),
        "fp8": lambda: torch._scaled_mm(a8, b8.t(), scale_a=one, scale_b=one,
                                        out_dtype=torch.bfloat16),
        "copy": lambda: target.copy_(source)})
    flops = 2 * size**3
    return {"bf16_8192_tflops": round(flops / times["bf16"]["us"] / 1e6, 1),
            "fp8_8192_tflops": round(flops / times["fp8"]["us"] / 1e6, 1),
            "copy_gb_per_s": round(2 * 4 * source.numel() / times["copy"]["us"] / 1e3, 1)}
