// Children of a test that are forked and may be killed. They judge themselves by exit code: the
// test framework must not run in a forked copy.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>

namespace dgrt::test {

// Forks; the child exits with what `fn` returns.
template <class Fn>
pid_t spawn(Fn fn) {
  std::cout.flush();  // else the child may print it again
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(fn());
  return pid;
}

// Wait status of a child of this test.
inline int wait_for(pid_t pid) {
  int status = -1;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

inline bool exited_well(int status) { return WIFEXITED(status) && WEXITSTATUS(status) == 0; }

// Holds children back until they all stand ready.
class Gate {
 public:
  Gate() { is_good_ = ::pipe(ends_) == 0; }
  ~Gate() {
    ::close(ends_[0]);
    open();
  }
  Gate(const Gate&) = delete;
  Gate& operator=(const Gate&) = delete;
  bool is_good() const { return is_good_; }
  void open() {
    if (ends_[1] >= 0) ::close(ends_[1]);
    ends_[1] = -1;
  }
  void pass() {  // in a child
    open();      // its own copy of the writing end
    char byte;
    (void)!::read(ends_[0], &byte, 1);
  }

 private:
  int ends_[2];
  bool is_good_;
};

}  // namespace dgrt::test
