// Sequences of equal lengths in benches of ops over a paged cache, whose pages lie in random order.
#pragma once
#include <algorithm>
#include <cstdint>
#include <random>
#include <vector>

#include "tools/lib/lab_device.h"

namespace dgrt {

class PagedTables {
 public:
  struct Sizes {
    int64_t batch, queries, keys, page_size;  // queries, keys: of each sequence
  };

  // Fills the members of Args that say who has which tokens and pages. Strides of the cache are the caller's.
  template <class Args>
  Status make(const lab::Device& device, const Sizes& sizes, uint64_t seed, Args* args) {
    Args& x = *args;
    x.batch = sizes.batch, x.total_q = x.batch * sizes.queries;
    x.max_q_len = sizes.queries, x.max_kv_len = sizes.keys, x.page_size = sizes.page_size;
    x.max_pages = x.page_table_stride = (sizes.keys + x.page_size - 1) / x.page_size;
    x.num_pages = x.batch * x.max_pages;
    std::vector<int32_t> q_indptr, pages(static_cast<size_t>(x.num_pages));
    for (int64_t i = 0; i <= x.batch; ++i) q_indptr.push_back(static_cast<int32_t>(i * sizes.queries));
    for (size_t i = 0; i < pages.size(); ++i) pages[i] = static_cast<int32_t>(i);
    std::mt19937_64 rng(seed);
    for (size_t i = pages.size(); i > 1; --i) std::swap(pages[i - 1], pages[rng() % i]);
    const std::vector<int32_t> seq_lens(static_cast<size_t>(x.batch), static_cast<int32_t>(sizes.keys));
    DGRT_ASSIGN(q_indptr_, upload(device, q_indptr));
    DGRT_ASSIGN(seq_lens_, upload(device, seq_lens));
    DGRT_ASSIGN(page_table_, upload(device, pages));
    x.q_indptr = q_indptr_.as<int32_t>(), x.seq_lens = seq_lens_.as<int32_t>();
    x.page_table = page_table_.as<int32_t>();
    return ok();
  }

  Status check_guards() const {
    for (const lab::DeviceBuffer* buffer : {&q_indptr_, &seq_lens_, &page_table_}) DGRT_TRY(buffer->check_guards());
    return ok();
  }

 private:
  static Result<lab::DeviceBuffer> upload(const lab::Device& device, const std::vector<int32_t>& values) {
    DGRT_ASSIGN(lab::DeviceBuffer buffer, lab::DeviceBuffer::make(device, values.size() * sizeof(int32_t)));
    DGRT_TRY(buffer.upload(values.data(), buffer.bytes()));
    return buffer;
  }

  lab::DeviceBuffer q_indptr_, seq_lens_, page_table_;
};

}  // namespace dgrt
