// LaunchScope: says which thread is inside dgrt_launch, so that the kernel store can count what must
// not happen there. dgrt_launch has no way to the compiler; the counters prove it in production.
#pragma once

namespace dgrt {

class LaunchScope {
 public:
  LaunchScope() { is_inside_ = true; }
  ~LaunchScope() { is_inside_ = false; }
  LaunchScope(const LaunchScope&) = delete;
  LaunchScope& operator=(const LaunchScope&) = delete;

  static bool is_inside() { return is_inside_; }

 private:
  static inline thread_local bool is_inside_ = false;
};

}  // namespace dgrt
