#include "tests/emulator/races.h"

#include <fmt/format.h>

#include <algorithm>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

template <class T>
T* zeros(size_t count) {
  return static_cast<T*>(std::calloc(count, sizeof(T)));
}

}  // namespace

void RaceCheck::start(const Cluster& cluster) {
  warps_per_cta_ = static_cast<uint32_t>(cluster.ctas[0]->warps.size());
  num_warps_ = warps_per_cta_ * static_cast<uint32_t>(cluster.ctas.size());
  clocks_.assign(num_warps_, Clock(num_warps_));
  for (uint32_t i = 0; i < num_warps_; ++i) clocks_[i][i] = 1;
  shadows_.resize(cluster.ctas.size());
  for (Shadow& shadow : shadows_) {
    shadow.bytes = static_cast<uint32_t>(cluster.ctas[0]->shared.size());
    shadow.writes.reset(zeros<Write>(shadow.bytes / word + 1));
    shadow.reads.resize(num_warps_);
    shadow.engine.resize(num_warps_);
  }
}

uint32_t RaceCheck::index_of(const Warp& warp) const { return warp.cta->rank * warps_per_cta_ + warp.index; }

uint32_t RaceCheck::index_of_barrier(uint64_t barrier) {
  const auto [found, is_new] = barrier_indices_.try_emplace(barrier, num_warps_ + phases_.size());
  if (is_new) phases_.push_back(0);
  return found->second;
}

void RaceCheck::join(Clock& into, const Clock& from) {
  if (into.size() < from.size()) into.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

void RaceCheck::arrive(const Warp& warp, uint64_t barrier) {
  const uint32_t own = index_of(warp);
  join(meetings_[barrier].coming, clocks_[own]);
  ++clocks_[own][own];
}

void RaceCheck::complete(uint64_t barrier) {
  Meeting& meeting = meetings_[barrier];
  meeting.done = std::move(meeting.coming);
  meeting.coming.clear();
  if (barrier >> 56 != mbarrier) return;
  const uint32_t index = index_of_barrier(barrier);
  if (meeting.done.size() <= index) meeting.done.resize(index + 1);
  meeting.done[index] = ++phases_[index - num_warps_];
}

void RaceCheck::pass(const Warp& warp, uint64_t barrier) { join(clocks_[index_of(warp)], meetings_[barrier].done); }

void RaceCheck::publish(const Warp& warp, uint64_t address) {
  const uint32_t own = index_of(warp);
  join(meetings_[uint64_t{address_of} << 56 | address].done, clocks_[own]);
  ++clocks_[own][own];
}

void RaceCheck::observe(const Warp& warp, uint64_t address) {
  const auto found = meetings_.find(uint64_t{address_of} << 56 | address);
  if (found != meetings_.end()) join(clocks_[index_of(warp)], found->second.done);
}

uint64_t RaceCheck::flag_in_shared(const Warp& warp, uint32_t address) {
  const uint64_t rank = address >> 24 == 0 ? warp.cta->rank : (address >> 24) - 1;
  return (rank + 1) << 48 | (address & 0xff'ffff);
}

RaceCheck::Place RaceCheck::place_of(const Warp& warp, uint32_t address, uint32_t bytes) {
  const uint32_t rank = address >> 24, offset = address & 0xff'ffff;
  return {shadows_[rank == 0 ? warp.cta->rank : rank - 1], offset, offset + bytes - 1};
}

void RaceCheck::fail(const Warp& warp, const char* what, uint32_t offset, uint32_t other, const char* did) const {
  std::string who = "a load of the copy engine";
  if (other < num_warps_)
    who = fmt::format("warp {} of the block of rank {}", other % warps_per_cta_, other / warps_per_cta_);
  throw Fault(fmt::format("a race: warp {} {} shared address {}, which {} {}, and no barrier is between", warp.index,
                          what, offset, who, did));
}

// Whether the warp is, or has waited for, one of those that wrote the word.
bool RaceCheck::is_known(const Warp& warp, const Shadow& shadow, uint32_t index) const {
  const uint32_t own = index_of(warp);
  const auto is_one = [&](const Write& write) { return write.by == own || knows(clocks_[own], write.by, write.clock); };
  if (is_one(shadow.writes[index])) return true;
  for (const auto& same : shadow.same)
    if (same && same[index].clock != 0 && is_one(same[index])) return true;
  return false;
}

void RaceCheck::check_written(const Warp& warp, const Place& place, uint32_t step, const char* what) const {
  for (uint32_t at = place.first; at <= place.last; at += step)
    if (!is_known(warp, place.shadow, at / word)) fail(warp, what, at, place.shadow.writes[at / word].by, "wrote");
}

void RaceCheck::set(Shadow& shadow, uint32_t index, const Write& write) {
  shadow.writes[index] = write;
  for (auto& same : shadow.same)
    if (same) same[index] = {};
}

void RaceCheck::check_unread(const Warp& warp, const Place& place, bool by_engine) const {
  const uint32_t own = index_of(warp);
  const Clock& clock = clocks_[own];
  const char* what = by_engine ? "has an engine write" : "writes";
  for (uint32_t other = 0; other < num_warps_; ++other) {
    if (const auto& reads = place.shadow.reads[other]; reads && other != own)
      for (uint32_t i = place.first / word; i <= place.last / word; ++i)
        if (!knows(clock, other, reads[i])) fail(warp, what, i * word, other, "reads");
    if (const auto& engine = place.shadow.engine[other])
      for (uint32_t i = place.first / piece; i <= place.last / piece; ++i)
        if (engine[i] != 0 && (engine[i] == never_ends || (other != own && !knows(clock, other, engine[i]))))
          fail(warp, what, i * piece, other, "has an engine read");
  }
}

void RaceCheck::read(const Warp& warp, uint32_t address, uint32_t bytes) {
  const Place place = place_of(warp, address, bytes);
  check_written(warp, place, word, "reads");
  const uint32_t own = index_of(warp);
  auto& reads = place.shadow.reads[own];
  if (!reads) reads.reset(zeros<uint32_t>(place.shadow.bytes / word + 1));
  for (uint32_t i = place.first_whole_word(); i < place.end_of_whole_words(); ++i) reads[i] = clocks_[own][own];
}

void RaceCheck::write(const Warp& warp, uint32_t address, uint32_t bytes) {
  const Place place = place_of(warp, address, bytes);
  check_written(warp, place, word, "writes");
  check_unread(warp, place, false);
  const uint32_t own = index_of(warp);
  for (uint32_t i = place.first_whole_word(); i < place.end_of_whole_words(); ++i)
    set(place.shadow, i, {own, clocks_[own][own]});
}

void RaceCheck::write_same(const Warp& warp, uint32_t address, uint32_t bytes) {
  const Place place = place_of(warp, address, bytes);
  const uint32_t own = index_of(warp);
  for (uint32_t i = place.first_whole_word(); i < place.end_of_whole_words(); ++i)
    for (auto& same : place.shadow.same) {
      if (place.shadow.writes[i].by == own) break;
      if (!same) same.reset(zeros<Write>(place.shadow.bytes / word + 1));
      if (same[i].clock != 0 && same[i].by != own) continue;
      same[i] = {own, clocks_[own][own]};
      break;
    }
}

void RaceCheck::begin_engine_read(const Warp& warp, uint32_t offset, uint32_t bytes) {
  const Place place = place_of(warp, offset, bytes);
  check_written(warp, place, piece, "has an engine read");
  auto& engine = place.shadow.engine[index_of(warp)];
  if (!engine) engine.reset(zeros<uint32_t>(place.shadow.bytes / piece + 1));
  for (uint32_t i = place.first / piece; i <= place.last / piece; ++i) engine[i] = never_ends;
}

void RaceCheck::end_engine_read(const Warp& warp, uint32_t offset, uint32_t bytes) {
  const Place place = place_of(warp, offset, bytes);
  const uint32_t own = index_of(warp);
  for (uint32_t i = place.first / piece; i <= place.last / piece; ++i)
    place.shadow.engine[own][i] = clocks_[own][own];
}

void RaceCheck::engine_write(const Warp& warp, const Cta& to, uint32_t offset, uint32_t bytes, uint64_t barrier) {
  const uint32_t index = index_of_barrier(barrier);
  const Write mark{index, phases_[index - num_warps_] + 1};
  join(meetings_[barrier].coming, clocks_[index_of(warp)]);  // what came before the load comes before its end
  const Place place{shadows_[to.rank], offset, offset + bytes - 1};
  check_written(warp, place, piece, "has an engine write");
  check_unread(warp, place, true);
  for (uint32_t i = place.first / word; i <= place.last / word; ++i) set(place.shadow, i, mark);
}

}  // namespace dgrt::emulator
