// SPDX-License-Identifier: Apache-2.0
// A pool of worker threads that hands out tasks by an atomic counter. Static partitions lose up to half when another job
// takes a core; a counter loses only the last task. Which thread runs a task must never influence a result.
// Everything here serves one op at a time: callers are kept apart by the addon (export-op.h).
#pragma once
#include "../types.h"

namespace tacotune {

/// Runs task(context, index, thread) for every index in [0,count), on the calling thread and the workers; returns when all
/// are done. The first exception of a task is thrown again here. Tasks must not call it themselves.
void run_tasks(Int count, void (*task)(void* context, Int index, Int thread), void* context);

/// Threads used by run_tasks, the caller's included.
Int thread_count();
void set_thread_count(Int count);

/// Scratch memory of one purpose (slot) that grows and is reused: `thread` -1 is shared, others are one thread's own. 64-byte aligned.
enum ScratchSlot : Int { SCRATCH_PACKED_A = 0, SCRATCH_PANEL_B, SCRATCH_LOGITS, SCRATCH_ROWS, SCRATCH_ATTENTION, SCRATCH_MISC, SCRATCH_SLOTS };
void* scratch(ScratchSlot slot, Int thread, Int bytes);

/// Bytes of scratch memory held now, over all slots and threads.
Int scratch_bytes();
void release_scratch();

}  // namespace tacotune
