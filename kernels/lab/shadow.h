// SPDX-License-Identifier: Apache-2.0
// What the checker remembers about memory: for every word that a kernel touched, who wrote it last and who has read it
// since. Order between threads is exact: barriers divide a block's life into epochs, and within an epoch the lanes of a warp
// carry vector clocks that __syncwarp joins, whatever its mask. Blocks of a launch are never ordered, launches always are.
#pragma once
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <unordered_map>
#include <vector>

namespace tacotune::cuda::emulator {

/// The vector clocks of a warp within an epoch. Every __syncwarp of the warp gets the next number.
struct WarpClocks {
  uint32_t syncs = 0;
  uint32_t stamp[32] = {};      // of each lane: the number of the last __syncwarp that it took part in
  uint32_t knows[32][32] = {};  // knows[l][r]: the latest __syncwarp of r whose earlier deeds lane l has seen

  void join(uint32_t mask) {
    uint32_t seen[32] = {};
    syncs++;
    for (int lane = 0; lane < 32; lane++)
      if (mask >> lane & 1u)
        for (int other = 0; other < 32; other++) seen[other] = seen[other] > knows[lane][other] ? seen[other] : knows[lane][other];
    for (int lane = 0; lane < 32; lane++)
      if (mask >> lane & 1u) seen[lane] = syncs;
    for (int lane = 0; lane < 32; lane++) {
      if (!(mask >> lane & 1u)) continue;
      memcpy(knows[lane], seen, sizeof seen);
      stamp[lane] = syncs;
    }
  }
};

/// Who is touching memory, and when.
struct Moment {
  uint32_t thread, epoch, pc;
  const WarpClocks* clocks;
  uint32_t warp() const { return thread / 32; }
  uint32_t lane() const { return thread % 32; }
  uint32_t stamp() const { return clocks->stamp[lane()]; }
  /// Whether the deeds of `other` (of the same warp) up to its clock `stamp` are visible to this thread.
  bool sees(uint32_t other, uint32_t stamp) const { return clocks->knows[lane()][other] > stamp; }
};

/// Four bytes, or one where a word is split.
struct Cell {
  uint32_t write_epoch = 0, write_stamp = 0, write_pc = 0;
  uint16_t write_thread = 0;
  uint8_t initialised = 0;  // a bit for each byte
  bool atomic : 1;        // only atomics since the last plain access: the readers below are those who updated
  bool write_atomic : 1;  // that write was an atomic
  bool in_flight : 1, mixed_stamps : 1;
  // Since that write. Of the epoch `read_epoch`: all warps, and the lanes if it is one warp, at the clock `read_stamp`.
  uint32_t read_epoch = 0, read_warps = 0, read_lanes = 0, read_stamp = 0, read_pc = 0;
  uint32_t other_block_read_epoch = 0, other_block_read_pc = 0;
  uint32_t split = 0;  // 1 + the place of its four bytes, or 0
  Cell() : atomic(false), write_atomic(false), in_flight(false), mixed_stamps(false) {}
};

/// A cell for every word of the address space, made as they are asked for.
class Shadow {
 public:
  Cell& word(uint64_t address) { return page(address >> PAGE_BITS)[address / 4 % CELLS]; }

  std::array<Cell, 4>& bytes_of(Cell& cell) {
    if (!cell.split) {
      if (free_.empty()) {
        splits_.emplace_back();
        free_.push_back(static_cast<uint32_t>(splits_.size()));
      }
      const uint32_t place = free_.back();
      free_.pop_back();
      for (int i = 0; i < 4; i++) {
        splits_[place - 1][i] = cell;
        splits_[place - 1][i].initialised = cell.initialised >> i & 1u;
      }
      cell.split = place;
    }
    return splits_[cell.split - 1];
  }

  void clear(Cell& cell) {
    if (cell.split) free_.push_back(cell.split);
    cell = Cell();
  }

  void clear(uint64_t address, size_t bytes) {
    for (uint64_t at = address & ~uint64_t(3); at < address + bytes; at += 4) clear(word(at));
  }

  /// Readers of a cell with different clocks: rare, so beside the cells. Forgotten at every epoch.
  std::unordered_map<const Cell*, std::array<uint32_t, 32>> reader_stamps;

 private:
  static constexpr int PAGE_BITS = 12;
  static constexpr size_t CELLS = (size_t(1) << PAGE_BITS) / 4;

  Cell* page(uint64_t number) {
    auto& [cached, cells] = recent_[number % recent_.size()];
    if (cached == number && cells) return cells;
    auto& found = pages_[number];
    if (!found) found = std::make_unique<Cell[]>(CELLS);
    cached = number;
    return cells = found.get();
  }

  std::unordered_map<uint64_t, std::unique_ptr<Cell[]>> pages_;
  std::array<std::pair<uint64_t, Cell*>, 256> recent_{};
  std::vector<std::array<Cell, 4>> splits_;
  std::vector<uint32_t> free_;
};

}  // namespace tacotune::cuda::emulator
