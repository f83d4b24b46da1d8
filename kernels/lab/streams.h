// SPDX-License-Identifier: Apache-2.0
// Streams as queues. Nothing runs when it is given; it runs when the host waits, and then in the order that is hardest on a
// program that forgot an event: with StreamOrder::LATE only what is waited for, with EARLY copies run before the kernels
// that were given earlier to other streams. Errors stay, as on a real context.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <set>
#include <string>

#include "kernels/lab/settings.h"

namespace tacotune::cuda::emulator {

class Stream;

/// A point in a stream that has been passed when `done` reaches it.
struct Mark {
  std::shared_ptr<Stream> stream;
  uint64_t number = 0;
};

struct Event {
  Mark mark;  // of the latest record; without a stream: never recorded
  std::chrono::steady_clock::time_point time{};
  bool keeps_time = true;
};

struct Operation {
  enum class Kind : uint8_t { KERNEL, COPY, RECORD, WAIT } kind;
  std::function<void()> run;      // KERNEL, COPY
  std::shared_ptr<Event> event;   // RECORD
  Mark mark;                      // WAIT
};

class Stream {
 public:
  explicit Stream(bool blocking_) : blocking(blocking_) {}
  const bool blocking;  // ordered with the null stream
  std::deque<Operation> queue;
  uint64_t given = 0, done = 0;
};

class Streams {
 public:
  explicit Streams(StreamOrder order) : order_(order) {}
  /// Called before the first kernel of a stretch of work and after the stretch: memory is open only between them.
  std::function<void()> open_memory, close_memory;
  /// Whether to drop work instead of running it: an earlier operation has failed.
  std::function<bool()> failed;

  std::shared_ptr<Stream> create(bool blocking);
  void destroy(const std::shared_ptr<Stream>& stream);

  void give(const std::shared_ptr<Stream>& stream, Operation operation);
  void record(const std::shared_ptr<Event>& event, const std::shared_ptr<Stream>& stream);

  void finish(const std::shared_ptr<Stream>& stream);
  void finish(const Mark& mark);
  void finish_all();
  /// Runs at most one operation of the stream, so that a host that polls gets on. True: nothing is left before `number`.
  bool poll(const std::shared_ptr<Stream>& stream, uint64_t number);

 private:
  void run_next(Stream& stream);
  void run_until(Stream& stream, uint64_t number);
  void run_copies_ahead();
  template <class Work>
  void working(Work work);

  StreamOrder order_;
  std::set<std::shared_ptr<Stream>> streams_;
  bool working_ = false, open_ = false;
};

}  // namespace tacotune::cuda::emulator
