/* A chunk of prefill of one compressed (C4) layer of DeepSeek-V4 on device 0, through the C API: the latent rows that
 * the chunk needs leave their fp8 caches for a plain workspace, each query token gets the list of rows that it sees,
 * and attention reads those. Two requests in the middle of their prompts; what the indexer chose is made up.
 *
 *   build_swa_token_ids       which slots of the sliding-window cache the chunk's windows reach
 *   kv_dequant_paged          those slots, and all compressed rows of both requests, to the workspace
 *   combine_topk_swa_indices  the workspace rows of each token: chosen compressed ones, then its window's
 *   mla_sparse_prefill        attention over them
 *
 * The workspace is [requests * compressed rows of the longest | rows of all windows] x 512. The result is compared with
 * attention straight from the caches in double precision, of some tokens and heads.
 *
 * Usage: v4_sparse_prefill [heads [top_k [tokens [context]]]], top_k a multiple of 64. Chunks of V4-Flash:
 * 64 512 8192 131072 and 64 512 32768 131072; of V4-Pro: 128 1024 8192 131072.
 * Build: cc v4_sparse_prefill.c -ldgrt -ldl -lm */
#include "dgrt/mla.h"

#include <dlfcn.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { requests = 2, columns = 512, window = 128, ratio = 4 };
enum { swa_page = 256, c4_page = 64, data_bytes = 576, scale_bytes = 8 }; /* of a token: see DGRT_MLA_KV_V4 */

static void check(int good, const char* what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, dgrt_last_error());
  exit(1);
}

/* ---- The device: from the CUDA driver, looked up by hand so that the example needs no CUDA headers. ---- */

static int (*allocate)(unsigned long long*, size_t);
static int (*copy_in)(unsigned long long, const void*, size_t, void*);
static int (*copy_out)(void*, unsigned long long, size_t, void*);
static int (*wait_for_device)(void);

/* The primary context, which dgrt's own context has retained. */
static void open_device(void) {
  int (*look_up)(const char*, void**, int, unsigned long long, int*), (*retain)(void**, int), (*make_current)(void*);
  const struct {
    const char* name;
    void** to;
  } entries[] = {{"cuMemAlloc", (void**)&allocate},          {"cuMemcpyHtoDAsync", (void**)&copy_in},
                 {"cuMemcpyDtoHAsync", (void**)&copy_out},   {"cuCtxSynchronize", (void**)&wait_for_device},
                 {"cuDevicePrimaryCtxRetain", (void**)&retain}, {"cuCtxSetCurrent", (void**)&make_current}};
  void *cuda = dlopen("libcuda.so.1", RTLD_NOW), *primary = NULL;
  check(cuda != NULL, "libcuda");
  *(void**)&look_up = dlsym(cuda, "cuGetProcAddress_v2");
  check(look_up != NULL, "cuGetProcAddress_v2");
  for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); ++i) /* as of CUDA 12.0 */
    check(look_up(entries[i].name, entries[i].to, 12000, 0, NULL) == 0 && *entries[i].to != NULL, entries[i].name);
  check(retain(&primary, 0) == 0 && make_current(primary) == 0, "primary context");
}

static void* device_bytes(size_t bytes) {
  unsigned long long memory = 0;
  check(allocate(&memory, bytes) == 0, "device memory");
  return (void*)(uintptr_t)memory;
}

static void* on_device(const void* from, size_t bytes) {
  void* memory = device_bytes(bytes);
  check(copy_in((uintptr_t)memory, from, bytes, NULL) == 0 && wait_for_device() == 0, "copy to the device");
  return memory;
}

static void* host_bytes(size_t bytes) {
  void* memory = calloc(bytes, 1);
  if (memory == NULL) abort();
  return memory;
}

/* ---- Inputs ---- */

static uint32_t random_bits(void) {
  static uint64_t state = 2026;
  state = state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(state >> 33);
}
static int32_t random_below(int64_t end) { return (int32_t)(random_bits() % (uint64_t)end); }
/* BF16 from -1 to 1. */
static uint16_t random_bf16(void) {
  const float value = (float)random_bits() / 1073741824.0f - 1.0f;
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return (uint16_t)(bits >> 16);
}
static float from_bf16(uint16_t value) {
  const uint32_t bits = (uint32_t)value << 16;
  float result;
  memcpy(&result, &bits, 4);
  return result;
}

/* A cache in the format of V4, on both sides. */
typedef struct {
  int64_t page_size, num_pages, page_stride;
  uint8_t* host;
  void* device;
} cache;

static cache make_cache(int64_t page_size, int64_t num_pages) {
  cache c = {page_size, num_pages, 0, NULL, NULL};
  const int64_t unit = data_bytes; /* FlashMLA wants pages in multiples of it */
  c.page_stride = (page_size * (data_bytes + scale_bytes) + unit - 1) / unit * unit;
  c.host = host_bytes((size_t)(num_pages * c.page_stride));
  for (int64_t slot = 0; slot < num_pages * page_size; ++slot) {
    uint8_t* page = c.host + slot / page_size * c.page_stride;
    uint8_t* row = page + slot % page_size * data_bytes;
    uint8_t* scales = page + page_size * data_bytes + slot % page_size * scale_bytes;
    for (int i = 0; i < 448; ++i) row[i] = (uint8_t)(random_bits() % 0x70 | (random_bits() & 0x80)); /* up to 256 */
    for (int i = 0; i < 64; ++i) {
      const uint16_t rotary = random_bf16();
      memcpy(row + 448 + 2 * i, &rotary, 2);
    }
    for (int i = 0; i < 7; ++i) scales[i] = (uint8_t)(118 + random_bits() % 3); /* 2^-9 to 2^-7 */
  }
  c.device = on_device(c.host, (size_t)(num_pages * c.page_stride));
  return c;
}

static float from_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  const float size = exponent == 0 ? ldexpf((float)fraction, -9) : ldexpf((float)(8 + fraction), exponent - 10);
  return (code & 0x80) != 0 ? -size : size;
}

static void read_row(const cache* c, int64_t slot, float* row) {
  const uint8_t* page = c->host + slot / c->page_size * c->page_stride;
  const uint8_t* data = page + slot % c->page_size * data_bytes;
  const uint8_t* scales = page + c->page_size * data_bytes + slot % c->page_size * scale_bytes;
  for (int i = 0; i < 448; ++i) row[i] = from_e4m3(data[i]) * ldexpf(1.0f, scales[i / 64] - 127);
  for (int i = 0; i < 64; ++i) {
    uint16_t rotary;
    memcpy(&rotary, data + 448 + 2 * i, 2);
    row[448 + i] = from_bf16(rotary);
  }
}

/* 0 to count - 1 in random order. */
static int32_t* shuffled(int64_t count) {
  int32_t* values = host_bytes((size_t)count * 4);
  for (int64_t i = 0; i < count; ++i) values[i] = (int32_t)i;
  for (int64_t i = count; i > 1; --i) {
    const int64_t j = random_below(i);
    const int32_t value = values[i - 1];
    values[i - 1] = values[j], values[j] = value;
  }
  return values;
}

/* The chunk: what an engine knows on the host. */
typedef struct {
  int64_t heads, top_k, tokens, context, width;
  int32_t seq_lens[requests], extend_lens[requests], query_start[requests + 1];
  int32_t compressed_lens[requests], request_rows[requests];
  int32_t compressed_base[requests], swa_base[requests];
  int64_t compressed_rows, swa_rows; /* of each request, at most; of all windows */
  int64_t c4_pages;                  /* of each request, at most */
  cache swa, c4;
  int32_t *req_to_token, *c4_table, *topk; /* [requests, context], [requests, c4_pages], [tokens, top_k] */
  int64_t* full_to_swa;
  uint16_t* q;
  float* sinks;
} chunk;

static int64_t position_of(const chunk* x, int64_t token, int* request) {
  *request = token >= x->query_start[1];
  return x->seq_lens[*request] - x->extend_lens[*request] + token - x->query_start[*request];
}

static void make_chunk(chunk* x) {
  x->width = (x->top_k + window + 127) / 128 * 128;
  x->compressed_rows = x->context / ratio;
  for (int r = 0; r < requests; ++r) {
    x->extend_lens[r] = (int32_t)(r == 0 ? x->tokens - x->tokens / 2 : x->tokens / 2);
    x->seq_lens[r] = (int32_t)(r == 0 ? x->context : x->context * 3 / 4);
    check(x->extend_lens[r] <= x->seq_lens[r], "context: shorter than the chunk");
    x->query_start[r + 1] = x->query_start[r] + x->extend_lens[r];
    x->compressed_lens[r] = x->seq_lens[r] / ratio;
    x->compressed_base[r] = (int32_t)(r * x->compressed_rows);
    x->swa_base[r] = (int32_t)(requests * x->compressed_rows + x->swa_rows);
    const int32_t reach = x->extend_lens[r] + window - 1;
    x->swa_rows += reach < x->seq_lens[r] ? reach : x->seq_lens[r];
    x->request_rows[r] = requests - 1 - r;
  }
  /* Tokens lie anywhere in the full pool, and these anywhere in the window's, which has as many slots here. */
  const int64_t all = requests * x->context;
  x->req_to_token = shuffled(all);
  const int64_t swa_pages = (all + swa_page - 1) / swa_page;
  int32_t* slots = shuffled(swa_pages * swa_page);
  x->full_to_swa = host_bytes((size_t)all * 8);
  for (int64_t i = 0; i < all; ++i) x->full_to_swa[i] = slots[i];
  free(slots);
  x->swa = make_cache(swa_page, swa_pages);
  x->c4_pages = (x->compressed_rows + c4_page - 1) / c4_page;
  x->c4 = make_cache(c4_page, requests * x->c4_pages);
  x->c4_table = shuffled(requests * x->c4_pages);
  x->topk = host_bytes((size_t)(x->tokens * x->top_k) * 4);
  for (int64_t t = 0; t < x->tokens; ++t) {
    int r;
    const int64_t visible = (position_of(x, t, &r) + 1) / ratio;
    const int64_t step = visible > x->top_k ? visible / x->top_k : 1;
    for (int64_t i = 0; i < x->top_k; ++i) /* one of each stretch of rows, or all there are */
      x->topk[t * x->top_k + i] = i < visible ? (int32_t)(i * step + random_below(step)) : -1;
  }
  const size_t elements = (size_t)(x->tokens * x->heads) * columns;
  x->q = host_bytes(elements * 2);
  for (size_t i = 0; i < elements; ++i) x->q[i] = random_bf16();
  x->sinks = host_bytes((size_t)x->heads * 4);
  for (int64_t h = 0; h < x->heads; ++h) x->sinks[h] = (float)h / 16.0f - 1.0f;
}

/* ---- The step ---- */

/* No plan of these ops wants a workspace of its own. */
#define RUN(op, context, desc, args)                                                             \
  do {                                                                                           \
    dgrt_plan* plan = NULL; /* an engine makes plans once, at model load: that may compile */    \
    check(dgrt_##op##_plan_create(context, &(desc), &plan) == DGRT_OK, #op " plan");             \
    check(dgrt_##op##_launch(plan, &(args), NULL, 0, NULL) == DGRT_OK, #op);                     \
    check(wait_for_device() == 0, #op " on the device"); /* only because the plan goes away */   \
    dgrt_plan_destroy(plan);                                                                     \
  } while (0)

static uint16_t* run_step(dgrt_context* context, const chunk* x, float scale) {
  const size_t vector = requests * sizeof(int32_t);
  const int64_t all = requests * x->context, rows = requests * x->compressed_rows + x->swa_rows;
  int32_t* seq_lens = on_device(x->seq_lens, vector);
  uint16_t* workspace = device_bytes((size_t)(rows * columns) * 2);

  dgrt_build_swa_token_ids_desc ids_desc = DGRT_BUILD_SWA_TOKEN_IDS_DESC;
  ids_desc.window = window, ids_desc.max_batch = requests, ids_desc.max_capacity = x->swa_rows;
  dgrt_build_swa_token_ids_args ids = DGRT_BUILD_SWA_TOKEN_IDS_ARGS;
  ids.seq_lens = seq_lens, ids.extend_lens = on_device(x->extend_lens, vector);
  ids.request_rows = on_device(x->request_rows, vector);
  ids.req_to_token = on_device(x->req_to_token, (size_t)all * 4);
  ids.full_to_swa = on_device(x->full_to_swa, (size_t)all * 8);
  ids.token_ids = device_bytes((size_t)x->swa_rows * 4);
  ids.first = device_bytes(vector), ids.gather_lens = device_bytes(vector);
  ids.offsets = device_bytes(vector + sizeof(int32_t));
  ids.batch = ids.num_request_rows = requests, ids.capacity = x->swa_rows;
  ids.max_tokens = ids.req_to_token_row_stride = x->context, ids.num_full = all;
  RUN(build_swa_token_ids, context, ids_desc, ids);

  dgrt_kv_dequant_paged_desc by_slot = DGRT_KV_DEQUANT_PAGED_DESC;
  by_slot.format = DGRT_MLA_KV_V4, by_slot.max_rows = x->swa_rows;
  dgrt_kv_dequant_paged_args windows = DGRT_KV_DEQUANT_PAGED_ARGS;
  windows.cache = x->swa.device, windows.slots = ids.token_ids, windows.rows = x->swa_rows;
  windows.page_size = swa_page, windows.num_pages = x->swa.num_pages, windows.cache_page_stride = x->swa.page_stride;
  windows.out = workspace + requests * x->compressed_rows * columns, windows.out_row_stride = columns;
  RUN(kv_dequant_paged, context, by_slot, windows);

  dgrt_kv_dequant_paged_desc by_sequence = DGRT_KV_DEQUANT_PAGED_DESC;
  by_sequence.format = DGRT_MLA_KV_V4, by_sequence.max_rows = x->compressed_rows, by_sequence.max_batch = requests;
  dgrt_kv_dequant_paged_args compressed = DGRT_KV_DEQUANT_PAGED_ARGS;
  compressed.cache = x->c4.device, compressed.rows = x->compressed_rows, compressed.batch = requests;
  compressed.seq_lens = on_device(x->compressed_lens, vector);
  compressed.page_table = on_device(x->c4_table, (size_t)(requests * x->c4_pages) * 4);
  compressed.page_size = c4_page, compressed.num_pages = x->c4.num_pages;
  compressed.cache_page_stride = x->c4.page_stride;
  compressed.max_pages = compressed.page_table_row_stride = x->c4_pages;
  compressed.out = workspace, compressed.out_row_stride = columns;
  compressed.out_sequence_stride = x->compressed_rows * columns;
  RUN(kv_dequant_paged, context, by_sequence, compressed);

  dgrt_combine_topk_swa_indices_desc combine_desc = DGRT_COMBINE_TOPK_SWA_INDICES_DESC;
  combine_desc.window = window, combine_desc.ratio = ratio, combine_desc.max_tokens = x->tokens;
  dgrt_combine_topk_swa_indices_args combine = DGRT_COMBINE_TOPK_SWA_INDICES_ARGS;
  combine.topk_indices = on_device(x->topk, (size_t)(x->tokens * x->top_k) * 4);
  combine.query_start_loc = on_device(x->query_start, vector + sizeof(int32_t));
  combine.seq_lens = seq_lens, combine.gather_lens = ids.gather_lens;
  combine.compressed_base = on_device(x->compressed_base, vector);
  combine.swa_base = on_device(x->swa_base, vector);
  combine.indices = device_bytes((size_t)(x->tokens * x->width) * 4);
  combine.lengths = device_bytes((size_t)x->tokens * 4);
  combine.tokens = x->tokens, combine.batch = requests;
  combine.top_k = combine.topk_row_stride = x->top_k;
  combine.width = combine.indices_row_stride = x->width;
  RUN(combine_topk_swa_indices, context, combine_desc, combine);

  const size_t elements = (size_t)(x->tokens * x->heads) * columns;
  dgrt_mla_sparse_prefill_desc desc = DGRT_MLA_SPARSE_PREFILL_DESC;
  desc.num_heads = x->heads, desc.head_dim_qk = columns, desc.dtype = DGRT_BF16;
  desc.max_tokens = x->tokens, desc.max_top_k = x->width;
  dgrt_mla_sparse_prefill_args args = DGRT_MLA_SPARSE_PREFILL_ARGS;
  args.q = on_device(x->q, elements * 2), args.kv = workspace;
  args.indices = combine.indices, args.lengths = combine.lengths;
  args.sinks = on_device(x->sinks, (size_t)x->heads * 4), args.o = device_bytes(elements * 2);
  args.tokens = x->tokens, args.kv_rows = rows, args.top_k = args.indices_row_stride = x->width;
  args.q_head_stride = args.o_head_stride = args.kv_row_stride = columns;
  args.q_token_stride = args.o_token_stride = x->heads * columns;
  args.scale = scale;
  RUN(mla_sparse_prefill, context, desc, args);

  uint16_t* o = host_bytes(elements * 2);
  check(copy_out(o, (uintptr_t)args.o, elements * 2, NULL) == 0 && wait_for_device() == 0, "read back");
  return o;
}

/* ---- The reference: straight from the caches ---- */

/* The rows that a token sees, one behind the other. Returns their number. */
static int64_t visible_rows(const chunk* x, int64_t token, float* rows) {
  int r;
  const int64_t p = position_of(x, token, &r);
  int64_t count = 0;
  for (int64_t i = 0; i < x->top_k && i < (p + 1) / ratio; ++i, ++count) {
    const int64_t row = x->topk[token * x->top_k + i];
    const int64_t page = x->c4_table[r * x->c4_pages + row / c4_page];
    read_row(&x->c4, page * c4_page + row % c4_page, rows + count * columns);
  }
  for (int64_t j = p >= window ? p - window + 1 : 0; j <= p; ++j, ++count)
    read_row(&x->swa, x->full_to_swa[x->req_to_token[x->request_rows[r] * x->context + j]], rows + count * columns);
  return count;
}

static void attend(const uint16_t* q, const float* rows, int64_t count, double sink, double scale, double* o) {
  double* logits = host_bytes((size_t)count * sizeof(double));
  double most = sink, sum = 0;
  for (int64_t t = 0; t < count; ++t) {
    for (int i = 0; i < columns; ++i) logits[t] += scale * from_bf16(q[i]) * rows[t * columns + i];
    most = fmax(most, logits[t]);
  }
  memset(o, 0, columns * sizeof(double));
  for (int64_t t = 0; t < count; ++t) {
    const double weight = exp(logits[t] - most);
    sum += weight;
    for (int i = 0; i < columns; ++i) o[i] += weight * rows[t * columns + i];
  }
  sum += exp(sink - most);
  for (int i = 0; i < columns; ++i) o[i] /= sum;
  free(logits);
}

/* Some tokens, the first and last of each request among them, and of each some heads. Returns the worst error of a
 * head's output over its length. */
static double worst_error(const chunk* x, const uint16_t* o, float scale) {
  const int64_t most_tokens = 32, most_heads = 8;
  float* rows = host_bytes((size_t)(x->top_k + window) * columns * sizeof(float));
  double worst = 0;
  for (int64_t i = 0; i < most_tokens; ++i) {
    const int64_t token = i < 4 ? (int64_t[]){0, x->query_start[1] - 1, x->query_start[1], x->tokens - 1}[i]
                                : random_below(x->tokens);
    const int64_t count = visible_rows(x, token, rows);
    for (int64_t j = 0; j < most_heads && j < x->heads; ++j) {
      const int64_t head = j * 37 % x->heads, at = (token * x->heads + head) * columns;
      double want[columns], error = 0, size = 0;
      attend(x->q + at, rows, count, x->sinks[head], scale, want);
      for (int c = 0; c < columns; ++c) {
        const double difference = from_bf16(o[at + c]) - want[c];
        error += difference * difference, size += want[c] * want[c];
      }
      const double relative = sqrt(error / size);
      if (!(relative <= worst)) worst = relative; /* NaN as well */
    }
  }
  free(rows);
  return worst;
}

int main(int count, char** values) {
  int64_t sizes[] = {16, 64, 12, 300}; /* heads, top_k, tokens, context */
  for (int i = 1; i < count && i <= 4; ++i) sizes[i - 1] = atoll(values[i]);
  static chunk x;
  x.heads = sizes[0], x.top_k = sizes[1], x.tokens = sizes[2], x.context = sizes[3];
  if (x.heads < 1 || x.top_k < 64 || x.tokens < 2 || x.context < x.tokens) {
    fprintf(stderr, "usage: v4_sparse_prefill [heads [top_k [tokens [context]]]]\n");
    return 2;
  }
  dgrt_context* context = NULL;
  check(dgrt_context_create(NULL, &context) == DGRT_OK, "context");
  open_device();
  make_chunk(&x);
  const float scale = 1.0f / sqrtf((float)columns);
  const uint16_t* o = run_step(context, &x, scale);
  const double worst = worst_error(&x, o, scale);
  printf("%lld tokens of %lld heads, %lld rows each at most: off by %.2g of a row at most\n", (long long)x.tokens,
         (long long)x.heads, (long long)x.width, worst);
  dgrt_context_destroy(context);
  if (worst < 0.01) return 0; /* weights and outputs have 8 bits */
  fprintf(stderr, "the result is wrong\n");
  return 1;
}
