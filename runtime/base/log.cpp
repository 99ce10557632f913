#include "runtime/base/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <string>

namespace dgrt {
namespace {

spdlog::level::level_enum spdlog_level(dgrt_log_level level) {
  switch (level) {
    case DGRT_LOG_DEBUG:
      return spdlog::level::debug;
    case DGRT_LOG_INFO:
      return spdlog::level::info;
    case DGRT_LOG_ERROR:
      return spdlog::level::err;
    case DGRT_LOG_OFF:
      return spdlog::level::off;
    default:
      return spdlog::level::warn;
  }
}

dgrt_log_level public_level(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
    case spdlog::level::debug:
      return DGRT_LOG_DEBUG;
    case spdlog::level::info:
      return DGRT_LOG_INFO;
    case spdlog::level::warn:
      return DGRT_LOG_WARN;
    default:
      return DGRT_LOG_ERROR;
  }
}

// The callback does its own locking, hence the null mutex.
class CallbackSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  CallbackSink(dgrt_log_fn fn, void* user) : fn_(fn), user_(user) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    const std::string text(message.payload.data(), message.payload.size());
    fn_(public_level(message.level), text.c_str(), user_);
  }
  void flush_() override {}

 private:
  dgrt_log_fn fn_;
  void* user_;
};

spdlog::sink_ptr make_sink(dgrt_log_fn fn, void* user) {
  if (fn) return std::make_shared<CallbackSink>(fn, user);
  return std::make_shared<spdlog::sinks::stderr_sink_mt>();
}

}  // namespace

Log::Log(dgrt_log_level level, dgrt_log_fn fn, void* user)
    : level_(level == DGRT_LOG_DEFAULT ? dgrt_log_level{DGRT_LOG_WARN} : level),
      logger_(std::make_unique<spdlog::logger>("dgrt", make_sink(fn, user))) {
  logger_->set_level(spdlog_level(level_));
  logger_->set_pattern("[dgrt %H:%M:%S.%e %l] %v");
}

Log::~Log() = default;

void Log::write(dgrt_log_level level, std::string_view message) {
  logger_->log(spdlog_level(level), spdlog::string_view_t(message.data(), message.size()));
}

}  // namespace dgrt
