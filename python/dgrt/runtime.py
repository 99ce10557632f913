"""Context and Plan: the objects of dgrt.h, with exceptions for statuses.

A Plan keeps its Context alive. Neither keeps the tensors of a launch alive: that is the caller's, as with
any asynchronous call. Streams are ints: torch.cuda.current_stream().cuda_stream, for example."""

import ctypes
import dataclasses
import weakref

from . import _c, mla_ops, ops
from ._c import CONSTANTS

_MAKE_ARGS = {**ops.MAKE_ARGS, **mla_ops.MAKE_ARGS}


class Error(Exception):
    """A dgrt call failed. `status` is the dgrt_status, `message` says field, value and rule."""

    def __init__(self, status, message):
        name = _c.load_library().dgrt_status_string(status).decode()
        super().__init__(f"{name}: {message}")
        self.status = status
        self.message = message


def _check(status):
    if status != CONSTANTS["OK"]:
        raise Error(status, _c.load_library().dgrt_last_error().decode(errors="replace"))


def _text(value):
    return (value or b"").decode(errors="replace")


def _encode(value):
    return None if value is None else str(value).encode()


def version():
    """(major, minor, patch) of the loaded library."""
    number = _c.load_library().dgrt_version()
    return number // 10000, number // 100 % 100, number % 100


@dataclasses.dataclass(frozen=True)
class Key:
    """A kernel that a plan would hold: what the cache files it under, entry name, config."""
    key: str
    kernel: str
    config: str


@dataclasses.dataclass(frozen=True)
class Progress:
    """One finished kernel of Context.prepare()."""
    status: int
    done: int
    total: int
    kernel: str
    message: str
    source: int
    ms: float


@dataclasses.dataclass(frozen=True)
class KernelInfo:
    name: str
    key: str
    config: str
    source: int
    num_registers: int


@dataclasses.dataclass(frozen=True)
class PlanInfo:
    kernels: tuple  # of KernelInfo
    workspace_bytes: int
    state_bytes: int


@dataclasses.dataclass(frozen=True)
class CallInfo:
    kernel_idx: int
    grid: tuple
    cluster: tuple
    num_threads: int
    smem_bytes: int
    block_m: int
    completion_threshold: int
    workspace_bytes: int


def enumerate_keys(desc, *, arch, sm_count):
    """The kernels that a plan of `desc` holds, without GPU, driver or compiler: a list of Key."""
    keys = []

    def on_key(info, _):
        entry = info.contents
        keys.append(Key(_text(entry.key), _text(entry.kernel), _text(entry.config)))
        return 0

    target = _c.Target(ctypes.sizeof(_c.Target), sm_count, _encode(arch))
    _check(_c.load_library().dgrt_enumerate(ctypes.byref(desc), ctypes.byref(target),
                                            _c.KeyFn(on_key), None))
    return keys


class Context:
    """A device, or a compile-only target: Context(device=dgrt.DEVICE_NONE, arch="sm_90a",
    sm_count=132). Use as a context manager, or close(); closing destroys its plans first."""

    _handle = None

    def __init__(self, device=0, *, arch=None, sm_count=0, miss_policy=CONSTANTS["MISS_DEFAULT"],
                 cache_dir=None, num_jobs=0, log_level=CONSTANTS["LOG_DEFAULT"], log=None,
                 cache_ro_path=None, bundle_path=None, bundle_digest=None,
                 cache_max_bytes=0, worker_path=None, bundle_public_key=None, compile_timeout_s=0):
        """`log(level, message)` receives log lines, from any thread; it must not call dgrt."""
        self._lib = _c.load_library()
        self._plans = weakref.WeakSet()
        self._log = _c.LogFn(lambda level, message, _: log(level, _text(message))) if log \
            else _c.LogFn()
        options = _c.ContextOptions(
            ctypes.sizeof(_c.ContextOptions), device, _encode(arch), sm_count, miss_policy,
            _encode(cache_dir), num_jobs, log_level, self._log, None, _encode(cache_ro_path),
            _encode(bundle_path), _encode(bundle_digest), cache_max_bytes,
            _encode(worker_path), _encode(bundle_public_key), compile_timeout_s, 0)
        handle = ctypes.c_void_p()
        _check(self._lib.dgrt_context_create(ctypes.byref(options), ctypes.byref(handle)))
        self._handle = handle

    def plan(self, desc):
        """All kernels for the sizes that `desc` allows, compiled and, on a device, loaded."""
        return Plan(self, desc)

    def prepare(self, descs, progress=None):
        """Makes every kernel that plans of `descs` need, into memory and cache. `progress` is called
        with one Progress per kernel; what it raises is raised here once all are done."""
        raised = []

        def on_progress(info, _):
            p = info.contents
            try:
                progress(Progress(p.status, p.done, p.total, _text(p.kernel), _text(p.message),
                                  p.source, p.ms))
            except BaseException as error:  # cannot cross the C frames in between
                raised.append(error)

        descs = list(descs)
        pointers = (ctypes.c_void_p * len(descs))(*(ctypes.addressof(d) for d in descs))
        callback = _c.ProgressFn(on_progress) if progress else _c.ProgressFn()
        status = self._lib.dgrt_prepare(self._open(), pointers, len(descs), callback, None)
        if raised:
            raise raised[0]
        _check(status)

    def stats(self):
        """dgrt_stats as a dict."""
        stats = _c.Stats(struct_size=ctypes.sizeof(_c.Stats))
        _check(self._lib.dgrt_context_get_stats(self._open(), ctypes.byref(stats)))
        return {name: getattr(stats, name) for name, _ in _c.Stats._fields_
                if name not in ("struct_size", "reserved")}

    def close(self):
        for plan in list(self._plans):
            plan.close()
        if self._handle is not None:
            self._lib.dgrt_context_destroy(self._handle)
            self._handle = None

    def _open(self):
        if self._handle is None:
            raise ValueError("the context is closed")
        return self._handle

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __del__(self):
        if self._handle is not None:
            self.close()


class Plan:
    """What Context.plan() returns. launch() is asynchronous and may be captured into a CUDA graph."""

    _handle = None

    def __init__(self, context, desc):
        self.desc = desc
        self._context = context  # destroyed after this plan
        self._lib = context._lib
        handle = ctypes.c_void_p()
        _check(self._lib.dgrt_plan_create(context._open(), ctypes.byref(desc), ctypes.byref(handle)))
        self._handle = handle
        context._plans.add(self)
        info = _c.PlanInfoStruct(struct_size=ctypes.sizeof(_c.PlanInfoStruct))
        _check(self._lib.dgrt_plan_get_info(handle, ctypes.byref(info)))
        self.info = PlanInfo(
            tuple(KernelInfo(_text(k.name), _text(k.key), _text(k.config), k.source, k.num_registers)
                  for k in info.kernels[:info.num_kernels]),
            info.workspace_bytes, info.state_bytes)

    def args(self, **fields):
        """The args struct of this plan's op; strides that are not given are those of dense tensors.
        Making it once and passing it to launch() keeps Python's share of a launch small."""
        return _MAKE_ARGS[type(self.desc)](self.desc, **fields)

    def query(self, args):
        """How a call would run: a CallInfo."""
        info = _c.CallInfoStruct(struct_size=ctypes.sizeof(_c.CallInfoStruct))
        _check(self._lib.dgrt_plan_query(self._open(), ctypes.byref(args), ctypes.byref(info)))
        return CallInfo(info.kernel_idx, tuple(info.grid), tuple(info.cluster), info.num_threads,
                        info.smem_bytes, info.block_m, info.completion_threshold,
                        info.workspace_bytes)

    def launch(self, args=None, *, workspace=None, workspace_bytes=0, stream=0, **fields):
        """Launches `args`, or args made from `fields`, on `stream` (0: the legacy default stream)."""
        if args is None:
            args = self.args(**fields)
        elif fields:
            raise TypeError(f"both args and {', '.join(fields)} were given")
        status = self._lib.dgrt_launch(self._open(), ctypes.byref(args), ops.address(workspace),
                                       workspace_bytes, stream or None)
        if status != 0:
            _check(status)

    def close(self):
        if self._handle is not None:
            self._lib.dgrt_plan_destroy(self._handle)
            self._handle = None

    def _open(self):
        if self._handle is None:
            raise ValueError("the plan is closed")
        return self._handle

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def __del__(self):
        self.close()
