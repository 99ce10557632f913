/* libdgrt: a kernel runtime for LLM serving engines. This header holds the calls; gemm.h and its
 * siblings hold one pair of structs per op: what is fixed when the model is loaded (desc) and what
 * changes with every call (args).
 *
 * Conventions
 *  1. Every function that can fail returns a dgrt_status; dgrt_last_error() then says which field,
 *     which value and which rule. Bad input never launches anything.
 *  2. Every struct starts with its size (descs and args: with an op id and the size) and is filled
 *     from its initialiser macro, so that it can grow at its end. Bytes past the size a library
 *     knows must be zero. Fields named `reserved` must be zero.
 *  3. Sizes and strides count elements unless the name ends in _bytes.
 *  4. Contexts and plans may be used from any number of threads at once. Objects are destroyed by
 *     the caller, plans before their context.
 *  5. dgrt_launch allocates nothing, takes no lock, never synchronises and may be captured into a
 *     CUDA graph. Kernels stay loaded until their context is destroyed, so a captured graph may
 *     outlive its plan but not its context.
 *  6. Pointers in *args are device pointers unless a comment says otherwise.
 *  7. fork: a child may go on using, and destroy, a compile-only context if no other thread was inside
 *     dgrt when the process forked. A context with a device is CUDA's to lose: the child must neither
 *     use nor destroy it, only exec or _exit. */
#ifndef DGRT_DGRT_H_
#define DGRT_DGRT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(DGRT_BUILDING_LIBRARY)
#define DGRT_API __attribute__((visibility("default")))
#else
#define DGRT_API
#endif

#define DGRT_VERSION_MAJOR 0
#define DGRT_VERSION_MINOR 1
#define DGRT_VERSION_PATCH 0
#define DGRT_VERSION (DGRT_VERSION_MAJOR * 10000 + DGRT_VERSION_MINOR * 100 + DGRT_VERSION_PATCH)

typedef struct CUstream_st* CUstream; /* the CUDA driver's own type */

/* ---- Status ---------------------------------------------------------------------------------- */

/* Numbers never change. */
typedef int32_t dgrt_status;
enum {
  DGRT_OK = 0,
  DGRT_INVALID_ARGUMENT = 1,    /* a documented rule is broken: fix the call */
  DGRT_UNSUPPORTED = 2,         /* no kernel for this device, these types or this library version */
  DGRT_NO_DEVICE = 3,           /* no CUDA driver, no device, or a compile-only context */
  DGRT_NO_COMPILER = 4,         /* the kernel is not cached and no usable libnvrtc was found */
  DGRT_MISS = 5,                /* the kernel is not cached and the policy forbids compiling */
  DGRT_COMPILE_FAILED = 6,      /* the compiler refused the kernel; the message holds its log */
  DGRT_DRIVER_ERROR = 7,        /* a CUDA driver call failed; the message names it */
  DGRT_DRIVER_TOO_OLD = 8,      /* the driver refuses this kernel image; names both versions */
  DGRT_WORKSPACE_TOO_SMALL = 9, /* names the bytes needed and given */
  DGRT_IO_ERROR = 10,           /* a file that the caller named could not be read or written */
  DGRT_PEER_LOST = 11,          /* a collective op gave up waiting for another rank */
  DGRT_INTERNAL = 12            /* a bug in dgrt */
};

/* Name of a status, e.g. "INVALID_ARGUMENT"; never NULL. */
DGRT_API const char* dgrt_status_string(dgrt_status status);

/* What went wrong in this thread's last dgrt call that failed: "lda=37: must be a multiple of 8
 * (16-byte rows)". Empty when nothing failed yet. Valid until this thread's next dgrt call. */
DGRT_API const char* dgrt_last_error(void);

/* DGRT_VERSION of the library that is loaded. */
DGRT_API uint32_t dgrt_version(void);

/* ---- Ops, element types ---------------------------------------------------------------------- */

/* First member of every desc and args struct. */
typedef struct dgrt_op {
  uint32_t id;          /* DGRT_OP_... */
  uint32_t struct_size; /* sizeof the struct that it starts */
} dgrt_op;
typedef dgrt_op dgrt_desc; /* points at the first member of a dgrt_<op>_desc */
typedef dgrt_op dgrt_args; /* points at the first member of a dgrt_<op>_args */

/* Op ids. Numbers never change. */
enum {
  DGRT_OP_GEMM = 1,
  DGRT_OP_QUANT_FP8 = 2,
  DGRT_OP_SCALE_LAYOUT = 3,
  DGRT_OP_GEMM_GROUPED_CONTIGUOUS = 4,
  DGRT_OP_GEMM_GROUPED_MASKED = 5,
  DGRT_OP_GEMM_GROUPED_K = 6,
  DGRT_OP_GEMM_BATCHED = 7,
  DGRT_OP_GEMM_FUSED_LINEAR = 8,
  DGRT_OP_HC_PRENORM = 9,
  DGRT_OP_HC_PRENORM_WEIGHTS = 10,
  DGRT_OP_SCALE_PACK_UE8M0 = 11,
  DGRT_OP_ATTN_PREFILL = 12,
  DGRT_OP_ATTN_DECODE = 13,
  DGRT_OP_ATTN_EXTEND = 14,
  DGRT_OP_ATTN_MERGE = 15,
  DGRT_OP_KV_APPEND = 16,
  DGRT_OP_MLA_DECODE = 17,
  DGRT_OP_MQA_LOGITS = 18,
  DGRT_OP_PAGED_MQA_LOGITS = 19,
  DGRT_OP_TOPK_TRANSFORM = 21,
  DGRT_OP_KV_DEQUANT_PAGED = 22,
  DGRT_OP_BUILD_SWA_TOKEN_IDS = 23,
  DGRT_OP_COMBINE_TOPK_SWA_INDICES = 24,
  DGRT_OP_MLA_KV_APPEND = 25,
  DGRT_OP_MLA_SPARSE_DECODE = 26,
  DGRT_OP_MLA_SPARSE_PREFILL = 27
};

/* Element types. Numbers never change. */
typedef uint32_t dgrt_dtype;
enum { DGRT_BF16 = 1, DGRT_FP16 = 2, DGRT_FP32 = 3, DGRT_E4M3 = 4 };

/* Bits of a desc's `flags` that mean the same in every op that takes them. */
/* Launch with programmatic dependent launch: the kernel may be scheduled while its predecessor in the
 * stream drains, and waits for it before touching memory. */
#define DGRT_FLAG_PDL (1u << 0)
/* The bits of a row of the result depend neither on how many rows a call has, nor on the other rows, nor on
 * the SM budget. Ops whose results never depend on these take the flag and ignore it. */
#define DGRT_FLAG_BATCH_INVARIANT (1u << 1)

/* ---- Context --------------------------------------------------------------------------------- */

typedef struct dgrt_context dgrt_context;

typedef uint32_t dgrt_log_level;
enum { DGRT_LOG_DEFAULT = 0, DGRT_LOG_DEBUG = 1, DGRT_LOG_INFO = 2, DGRT_LOG_WARN = 3, DGRT_LOG_ERROR = 4, DGRT_LOG_OFF = 5 };

/* Called from whichever thread logs; must be thread safe and must not call dgrt. */
typedef void (*dgrt_log_fn)(dgrt_log_level level, const char* message, void* user);

typedef uint32_t dgrt_miss_policy;
enum {
  DGRT_MISS_DEFAULT = 0, /* DGRT_MISS from the environment, else compile */
  DGRT_MISS_COMPILE = 1, /* a kernel that is in no cache is compiled */
  DGRT_MISS_ERROR = 2    /* ... makes plan creation fail with DGRT_MISS */
};

#define DGRT_DEVICE_NONE (-1) /* compile only: enumerate and prepare work, launching does not */

typedef struct dgrt_context_options {
  uint32_t struct_size;
  int32_t device;               /* CUDA device ordinal, or DGRT_DEVICE_NONE */
  const char* arch;             /* "sm_90a". NULL: the device's. Required without a device */
  uint32_t sm_count;            /* SMs that kernels are chosen for. 0: the device's. Required without one */
  dgrt_miss_policy miss_policy;
  const char* cache_dir;        /* NULL: DGRT_CACHE_DIR, else the user's cache directory. "": memory only */
  uint32_t num_jobs;            /* kernels that dgrt_prepare makes at a time. 0: what cores and free memory allow */
  dgrt_log_level log_level;     /* DGRT_LOG_DEFAULT: DGRT_LOG from the environment, else warn */
  dgrt_log_fn log_fn;           /* NULL: standard error */
  void* log_user;
  const char* cache_ro_path;    /* read-only cache directories, "a:b". NULL: DGRT_CACHE_RO_PATH. "": none */
  const char* bundle_path;      /* bundle files, "a:b". NULL: DGRT_BUNDLE_PATH. "": none */
  const char* bundle_digest;    /* digest of each bundle, 64 hex digits each, "a:b". NULL: not pinned, or, if
                                   bundle_path is NULL, DGRT_BUNDLE_DIGEST */
  uint64_t cache_max_bytes;     /* of kernels in the cache directory: beyond, those unused for longest are removed
                                   when one is added. 0: 4 GiB. UINT64_MAX: no bound */
  const char* worker_path;      /* the `dgrt` program, whose processes dgrt_prepare compiles with. NULL: beside the
                                   library, in ../bin, or on PATH. "", or none found: threads of this process */
  const char* bundle_public_key;/* Ed25519 key, 64 hex digits: every bundle must have FILE.sig by it. NULL: not asked */
  uint32_t compile_timeout_s;   /* longest compile in a worker process, seconds; then it is killed. 0: 120 */
  uint32_t reserved;
} dgrt_context_options;
#define DGRT_CONTEXT_OPTIONS {sizeof(dgrt_context_options), 0, NULL, 0, DGRT_MISS_DEFAULT, NULL, 0, DGRT_LOG_DEFAULT, NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, 0, 0}

/* Opens a device (its primary CUDA context is retained) or, with DGRT_DEVICE_NONE, a compile-only
 * context that needs neither GPU nor driver. `options` NULL means device 0 and defaults. The
 * environment is read here, once.
 * Kernels are looked up in memory, bundles, read-only directories, the cache directory, in this order.
 * Errors: INVALID_ARGUMENT (also: a bundle without the digest that it is pinned to), NO_DEVICE,
 * UNSUPPORTED (device older than SM90), DRIVER_ERROR, IO_ERROR (a pinned bundle cannot be read). Any
 * other directory or bundle that cannot be used is not an error: it is logged and left out. */
DGRT_API dgrt_status dgrt_context_create(const dgrt_context_options* options, dgrt_context** context);
DGRT_API void dgrt_context_destroy(dgrt_context* context); /* NULL is allowed */

typedef struct dgrt_stats {
  uint32_t struct_size;
  uint32_t reserved;
  uint64_t lookups;           /* kernels asked for */
  uint64_t memory_hits;       /* ... found in this context */
  uint64_t disk_hits;         /* ... found in a bundle, a read-only directory or the cache directory */
  uint64_t compiles;          /* ... compiled */
  uint64_t compile_failures;
  uint64_t shared_waits;      /* ... taken from a compile that another thread or process had begun */
  uint64_t quarantined;       /* damaged entries moved aside */
  uint64_t publish_failures;  /* compiled kernels that could not be stored */
  uint64_t kernel_loads;      /* kernels loaded onto the device */
  double compile_ms;          /* sum over compiles, wall clock of each */
  uint64_t evicted;           /* entries that this context removed from the cache directory, which was full */
  uint64_t evicted_bytes;
  uint64_t launch_compiles;   /* compiles inside dgrt_launch: always 0, or dgrt has a bug */
  uint64_t launch_loads;      /* kernels loaded inside dgrt_launch: likewise */
} dgrt_stats;
#define DGRT_STATS {sizeof(dgrt_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0, 0, 0, 0}

DGRT_API dgrt_status dgrt_context_get_stats(const dgrt_context* context, dgrt_stats* stats);

/* ---- Plans ----------------------------------------------------------------------------------- */

typedef uint32_t dgrt_source; /* who had a kernel */
enum { DGRT_SOURCE_NONE = 0, DGRT_SOURCE_MEMORY = 1, DGRT_SOURCE_DISK = 2, DGRT_SOURCE_COMPILED = 3 };

/* One finished kernel of dgrt_prepare. */
typedef struct dgrt_progress {
  uint32_t struct_size;
  dgrt_status status;   /* of this kernel */
  uint32_t done, total; /* kernels, this one counted */
  const char* kernel;   /* entry name, e.g. "sm90_gemm_fp8_128x128_s5_c2x1" */
  const char* message;  /* why it failed, else "" */
  dgrt_source source;
  float ms;             /* time it took */
} dgrt_progress;
typedef void (*dgrt_progress_fn)(const dgrt_progress* progress, void* user);

/* Makes every kernel that plans of these descs can need: from memory, from the cache, or compiled,
 * several at a time, into memory and cache. All are tried; the first failure's status is returned.
 * `progress` (may be NULL) is called once per kernel, from one thread at a time. */
DGRT_API dgrt_status dgrt_prepare(dgrt_context* context, const dgrt_desc* const* descs, size_t num_descs,
                                  dgrt_progress_fn progress, void* user);

typedef struct dgrt_plan dgrt_plan;

/* Chooses the kernels for the whole range of sizes that `desc` allows; when this returns OK, all of
 * them are compiled and, if the context has a device, loaded. `desc` is copied.
 * Errors: INVALID_ARGUMENT, UNSUPPORTED, MISS, NO_COMPILER, COMPILE_FAILED, DRIVER_ERROR,
 * DRIVER_TOO_OLD. */
DGRT_API dgrt_status dgrt_plan_create(dgrt_context* context, const dgrt_desc* desc, dgrt_plan** plan);
DGRT_API void dgrt_plan_destroy(dgrt_plan* plan); /* NULL is allowed */

typedef struct dgrt_kernel_info {
  const char* name;   /* entry name */
  const char* key;    /* 64 hex digits: what the cache files it under */
  const char* config; /* "block_m=128 block_n=128 ..." */
  dgrt_source source;
  uint32_t num_registers; /* per thread */
} dgrt_kernel_info;

typedef struct dgrt_plan_info {
  uint32_t struct_size;
  uint32_t num_kernels;
  const dgrt_kernel_info* kernels; /* num_kernels of them, owned by the plan */
  uint64_t workspace_bytes;        /* enough for every call that the desc allows; may be dirty */
  uint64_t state_bytes;            /* of the workspace's start: zeroed once by the caller, left zero by calls */
} dgrt_plan_info;
#define DGRT_PLAN_INFO {sizeof(dgrt_plan_info), 0, NULL, 0, 0}

DGRT_API dgrt_status dgrt_plan_get_info(const dgrt_plan* plan, dgrt_plan_info* info);

/* How one call would run. Pointers in args are checked like in dgrt_launch. */
typedef struct dgrt_call_info {
  uint32_t struct_size;
  uint32_t kernel_idx;      /* into dgrt_plan_info.kernels */
  uint32_t grid[3], cluster[3];
  uint32_t num_threads;     /* per block */
  uint32_t smem_bytes;      /* per block */
  uint32_t block_m;         /* rows of d per tile; 0 where an op has no such tile */
  uint32_t completion_threshold; /* ops that signal: what a tile's counter reaches; else 0 */
  uint64_t workspace_bytes; /* for this call */
} dgrt_call_info;
#define DGRT_CALL_INFO {sizeof(dgrt_call_info), 0, {0, 0, 0}, {0, 0, 0}, 0, 0, 0, 0, 0}

DGRT_API dgrt_status dgrt_plan_query(const dgrt_plan* plan, const dgrt_args* args, dgrt_call_info* info);

/* Checks `args`, picks the kernel for its sizes and launches it on `stream` (NULL: the legacy default
 * stream of the current CUDA context). `workspace` may be NULL when the plan needs none.
 * Errors: INVALID_ARGUMENT (also: a stream of another device), WORKSPACE_TOO_SMALL, NO_DEVICE,
 * DRIVER_ERROR. */
DGRT_API dgrt_status dgrt_launch(const dgrt_plan* plan, const dgrt_args* args, void* workspace,
                                 size_t workspace_bytes, CUstream stream);

/* ---- Enumeration: which kernels would a plan need, without compiling ---------------------------- */

typedef struct dgrt_target {
  uint32_t struct_size;
  uint32_t sm_count; /* e.g. 132 */
  const char* arch;  /* "sm_90a" */
} dgrt_target;
#define DGRT_TARGET {sizeof(dgrt_target), 132, "sm_90a"}

typedef struct dgrt_key_info {
  uint32_t struct_size;
  uint32_t reserved;
  const char* key;    /* 64 hex digits */
  const char* kernel; /* entry name */
  const char* config;
} dgrt_key_info;
/* Return 0 to go on, anything else to stop. Strings live until the call returns. */
typedef int (*dgrt_key_fn)(const dgrt_key_info* info, void* user);

/* Calls `fn` once for each kernel that a plan of `desc` on `target` holds. Needs no context, GPU,
 * driver or compiler. Uses the code that plan creation uses, so the two cannot disagree. */
DGRT_API dgrt_status dgrt_enumerate(const dgrt_desc* desc, const dgrt_target* target, dgrt_key_fn fn, void* user);

/* ---- Several GPUs ------------------------------------------------------------------------------ */

typedef struct dgrt_symm dgrt_symm;
typedef struct dgrt_symm_options {
  uint32_t struct_size;
  uint32_t rank, world_size;
  uint32_t reserved;
  uint64_t bytes;          /* of every rank's buffer */
  void* const* bases;      /* world_size addresses, as mapped into this process */
} dgrt_symm_options;

/* A buffer that every rank can reach. This version has no op that uses one: UNSUPPORTED. */
DGRT_API dgrt_status dgrt_symm_create(dgrt_context* context, const dgrt_symm_options* options, dgrt_symm** symm);
DGRT_API void dgrt_symm_destroy(dgrt_symm* symm); /* NULL is allowed */

/* ---- Typed wrappers: dgrt_<op>_plan_create() and dgrt_<op>_launch(), in the header of each op ------ */

#define DGRT_TYPED_CALLS(name)                                                                       \
  static inline dgrt_status dgrt_##name##_plan_create(                                               \
      dgrt_context* context, const dgrt_##name##_desc* desc, dgrt_plan** plan) {                     \
    return dgrt_plan_create(context, desc ? &desc->op : NULL, plan);                                 \
  }                                                                                                  \
  static inline dgrt_status dgrt_##name##_launch(const dgrt_plan* plan,                              \
                                                 const dgrt_##name##_args* args, void* workspace,    \
                                                 size_t workspace_bytes, CUstream stream) {          \
    return dgrt_launch(plan, args ? &args->op : NULL, workspace, workspace_bytes, stream);           \
  }

#ifdef __cplusplus
}
#endif
#endif /* DGRT_DGRT_H_ */
