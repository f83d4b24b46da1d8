// SPDX-License-Identifier: Apache-2.0
// The queues and the two orders in which they run.
#include "kernels/lab/streams.h"

namespace tacotune::cuda::emulator {

template <class Work>
void Streams::working(Work work) {
  if (working_) return work();
  working_ = true;
  work();
  if (open_) close_memory();
  working_ = open_ = false;
}

std::shared_ptr<Stream> Streams::create(bool blocking) {
  auto stream = std::make_shared<Stream>(blocking);
  streams_.insert(stream);
  return stream;
}

void Streams::destroy(const std::shared_ptr<Stream>& stream) {
  finish(stream);
  streams_.erase(stream);
}

void Streams::give(const std::shared_ptr<Stream>& stream, Operation operation) {
  stream->queue.push_back(std::move(operation));
  stream->given++;
  if (order_ == StreamOrder::EARLY) run_copies_ahead();
}

void Streams::record(const std::shared_ptr<Event>& event, const std::shared_ptr<Stream>& stream) {
  event->mark = {stream, stream->given + 1};
  give(stream, {Operation::Kind::RECORD, nullptr, event, {}});
}

/// Copies, and what stands between them, as far as possible without running a kernel.
void Streams::run_copies_ahead() {
  const auto can_go = [](const Stream& stream) {
    if (stream.queue.empty()) return false;
    const Operation& next = stream.queue.front();
    if (next.kind == Operation::Kind::WAIT) return next.mark.stream->done >= next.mark.number;
    return next.kind != Operation::Kind::KERNEL;
  };
  bool any = false;
  for (const auto& stream : streams_) any = any || can_go(*stream);
  if (!any) return;
  working([&] {
    for (bool progress = true; progress;) {
      progress = false;
      for (const auto& stream : streams_)
        while (can_go(*stream)) run_next(*stream), progress = true;
    }
  });
}

void Streams::run_next(Stream& stream) {
  if (stream.queue.front().kind == Operation::Kind::WAIT) {
    // It stands in its place until it is over, so that nothing behind it runs ahead meanwhile.
    const Mark mark = stream.queue.front().mark;
    const uint64_t before = stream.done;
    run_until(*mark.stream, mark.number);
    if (stream.done != before) return;  // it was passed on the way
  }
  Operation operation = std::move(stream.queue.front());
  stream.queue.pop_front();
  switch (operation.kind) {
    case Operation::Kind::KERNEL:
      if (!open_) open_memory(), open_ = true;
      [[fallthrough]];
    case Operation::Kind::COPY:
      if (!failed()) operation.run();
      break;
    case Operation::Kind::RECORD: operation.event->time = std::chrono::steady_clock::now(); break;
    case Operation::Kind::WAIT: break;
  }
  stream.done++;
}

void Streams::run_until(Stream& stream, uint64_t number) {
  // A wait names an earlier record, so what it waits for never waits for this.
  while (stream.done < number && !stream.queue.empty()) {
    run_next(stream);
    if (order_ == StreamOrder::EARLY) run_copies_ahead();
  }
}

void Streams::finish(const Mark& mark) {
  if (mark.stream && mark.stream->done < mark.number) working([&] { run_until(*mark.stream, mark.number); });
}

void Streams::finish(const std::shared_ptr<Stream>& stream) { finish(Mark{stream, stream->given}); }

void Streams::finish_all() {
  for (const auto& stream : streams_) finish(stream);
}

bool Streams::poll(const std::shared_ptr<Stream>& stream, uint64_t number) {
  if (stream->done < number && !stream->queue.empty()) working([&] { run_next(*stream); });
  return stream->done >= number;
}

}  // namespace tacotune::cuda::emulator
