// A warp's lanes and the instructions they stand at. The group with the smallest pc goes first, so that lanes that
// parted meet again where their ways join; one that polls, or waits for lanes of other groups, lets those go first.
#include <algorithm>
#include <bit>

#include "tests/emulator/emulated_machine.h"

namespace dgrt::emulator {
namespace {

// Lanes that do not take part may hold another register's bits.
uint32_t guarded(const Warp& warp, const Instr& instr, uint32_t lanes) {
  if (instr.guard == no_reg) return lanes;
  const Lanes& predicate = warp.regs[instr.guard];
  uint32_t mask = 0;
  for (uint32_t lane = 0; lane < 32; ++lane) mask |= static_cast<uint32_t>(predicate[lane] & 1) << lane;
  return lanes & (instr.guard_negated ? ~mask : mask);
}

std::string coordinates(const std::array<uint32_t, 3>& at) {
  return "(" + std::to_string(at[0]) + ", " + std::to_string(at[1]) + ", " + std::to_string(at[2]) + ")";
}

std::string place(const Instr& instr) {
  return "`" + std::string(instr.text) + "` (PTX line " + std::to_string(instr.line) + ")";
}

struct LaneFault : Fault {
  using Fault::Fault;
};

// Puts `group` into the order of pc; lanes at the same one become one group.
void insert(Warp& warp, const Group& group) {
  const auto at = std::find_if(warp.groups.begin(), warp.groups.end(),
                               [&](const Group& other) { return other.pc >= group.pc; });
  if (at != warp.groups.end() && at->pc == group.pc) {
    at->lanes |= group.lanes;
    at->rests = false;
  } else {
    warp.groups.insert(at, group);
  }
}

class Runner {
 public:
  Runner(Warp& warp, uint32_t quantum)
      : warp_(warp), cluster_(*warp.cta->cluster), code_(cluster_.kernel->code), quantum_(quantum) {}

  // False: no group can go on in this turn.
  bool run() {
    while (quantum_ > 0) {
      const auto ready = std::find_if(warp_.groups.begin(), warp_.groups.end(),
                                      [](const Group& group) { return !group.rests; });
      if (ready == warp_.groups.end()) return false;
      Group group = *ready;
      warp_.groups.erase(ready);
      at_ = group.pc;
      run_group(group);
      if (group.lanes != 0) insert(warp_, group);
      if (warp_.waits != Warp::Waits::no) return false;
    }
    return true;
  }
  const Instr& at() const { return code_[at_]; }
  uint32_t lanes() const { return lanes_; }

 private:
  // Until it rests, ends, meets others, or the quantum is used up.
  void run_group(Group& group) {
    do {
      at_ = group.pc;
      const Instr& instr = code_[group.pc];
      --quantum_;
      lanes_ = guarded(warp_, instr, group.lanes);
      if (instr.control == Control::none) {
        Step step = Step::next;
        if (lanes_ != 0) {
          step = instr.run(warp_, instr, lanes_);
          cluster_.events += instr.event;
        }
        group.rests = step != Step::next;
        group.pc += step != Step::retry;
      } else {
        run_control(group, instr);
      }
    } while (quantum_ > 0 && !group.rests && group.lanes != 0 && warp_.waits == Warp::Waits::no &&
             !meets_others(group.pc));
  }
  // Whether other lanes stand there already, or are behind and can go on.
  bool meets_others(uint32_t pc) const {
    for (const Group& other : warp_.groups)
      if (other.pc == pc || (other.pc < pc && !other.rests)) return true;
    return false;
  }

  void run_control(Group& group, const Instr& instr) {
    switch (instr.control) {
      case Control::branch:
        return branch(group, instr);
      case Control::exit:
        return exit(group);
      case Control::members:
        return run_members(group, instr);
      default:
        if (lanes_ == 0) {
          ++group.pc;
        } else if (lanes_ != warp_.live) {
          group.rests = true;
        } else {
          const Step step = instr.run(warp_, instr, lanes_);
          cluster_.events += instr.event;
          group.rests = step != Step::next;
          group.pc += step != Step::retry;
        }
    }
  }

  void branch(Group& group, const Instr& instr) {
    const auto target = static_cast<uint32_t>(instr.operands[0].value);
    if (lanes_ == group.lanes) {
      group.pc = target;
    } else if (lanes_ == 0) {
      ++group.pc;
    } else {
      const Group stay{group.pc + 1, group.lanes & ~lanes_};
      const Group go{target, lanes_};
      insert(warp_, stay.pc < go.pc ? go : stay);
      group = stay.pc < go.pc ? stay : go;
    }
  }

  void exit(Group& group) {
    warp_.live &= ~lanes_;
    group.lanes &= ~lanes_;
    ++group.pc;
    ++cluster_.events;
    for (Group& other : warp_.groups) other.rests = false;  // they may have waited for these
    if (warp_.live == 0) end_warp(warp_);
  }

  // Lanes whose members all stand here pass; the rest waits.
  void run_members(Group& group, const Instr& instr) {
    uint32_t passing = 0;
    for (uint32_t rest = lanes_; rest != 0;) {
      const auto lane = static_cast<uint32_t>(std::countr_zero(rest));
      const auto members = static_cast<uint32_t>(lane_value(warp_, instr.operands.back(), lane));
      if ((members >> lane & 1) == 0) fail_lane(warp_, lane, "the lane is not among the members that it names");
      const uint32_t together = members & warp_.live;
      if ((together & ~lanes_) == 0) {
        passing |= together;
        instr.run(warp_, instr, together);
      }
      rest &= ~(together | 1u << lane);
    }
    const uint32_t waiting = lanes_ & ~passing;
    if (waiting == group.lanes) {
      group.rests = true;
    } else if (waiting == 0) {
      ++group.pc;
    } else {
      insert(warp_, {group.pc + 1, group.lanes & ~waiting});
      group.lanes = waiting;
      group.rests = true;
    }
  }

  Warp& warp_;
  Cluster& cluster_;
  const std::vector<Instr>& code_;
  uint32_t quantum_;
  uint32_t at_ = 0, lanes_ = 0;
};

}  // namespace

bool run_warp(Warp& warp, uint32_t quantum, bool others_first) {
  for (Group& group : warp.groups) group.rests = false;
  if (others_first && warp.groups.size() > 1) warp.groups.front().rests = true;
  Runner runner(warp, quantum);
  try {
    return runner.run();
  } catch (const LaneFault& fault) {
    throw Fault(place(runner.at()) + ": " + fault.what());
  } catch (const Fault& fault) {
    const auto lane = static_cast<uint32_t>(std::countr_zero(runner.lanes()));
    try {
      fail_lane(warp, lane, fault.what());
    } catch (const LaneFault& named) {
      throw Fault(place(runner.at()) + ": " + named.what());
    }
  }
}

void fail_lane(const Warp& warp, uint32_t lane, const std::string& message) {
  const std::array<uint32_t, 3>& block = warp.cta->cluster->block;
  const uint32_t thread = warp.index * 32 + lane;
  throw LaneFault(message + "; thread " +
                  coordinates({thread % block[0], thread / block[0] % block[1], thread / block[0] / block[1]}) +
                  " of block " + coordinates(warp.cta->id));
}

std::string describe(const Warp& warp) {
  std::string result;
  for (const Group& group : warp.groups) {
    char lanes[16];
    std::snprintf(lanes, sizeof lanes, "%08x", group.lanes);
    const bool is_behind = warp.waits != Warp::Waits::no;  // it has arrived at the barrier and waits
    const Instr& instr = warp.cta->cluster->kernel->code[group.pc - (is_behind ? 1 : 0)];
    result += "\n  block " + coordinates(warp.cta->id) + " warp " + std::to_string(warp.index) + " lanes " + lanes +
              (is_behind ? " wait in " : " at ") + place(instr) + describe_registers(warp, instr);
  }
  return result;
}

}  // namespace dgrt::emulator
