// Threads that share the rows of one piece of work.
#ifndef NOISEVOTE_TEAM_H_
#define NOISEVOTE_TEAM_H_

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace noisevote {

// Who computes: `threads` threads of the OpenMP runtime whose GOMP_parallel is given, or new ones for this call.
// A caller that has an OpenMP runtime should lend it: its idle threads spin for a while after each of
// the caller's own loops, and threads of ours would share their processors with them.
struct Team {
  int threads;
  void (*gomp_parallel)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
};

// Rows in even shares; whoever is free takes the next share.
template <class Work>
struct Shares {
  const Work& work;
  int64_t rows;
  int64_t count;
  std::atomic<int64_t> next{0};

  static void take(void* self) {
    auto& shares = *static_cast<Shares*>(self);
    for (int64_t i = shares.next++; i < shares.count; i = shares.next++)
      shares.work(shares.rows * i / shares.count, shares.rows * (i + 1) / shares.count);
  }
};

template <class Work>
void over_rows(int64_t rows, const Team& team, const Work& work) {
  const auto threads = static_cast<unsigned>(std::max<int64_t>(1, std::min<int64_t>(team.threads, rows)));
  Shares<Work> shares{work, rows, threads};
  if (threads > 1 && team.gomp_parallel != nullptr) {
    team.gomp_parallel(Shares<Work>::take, &shares, threads, 0);
    return;
  }
  std::vector<std::thread> others;
  for (unsigned i = 1; i < threads; ++i) others.emplace_back(Shares<Work>::take, &shares);
  Shares<Work>::take(&shares);
  for (auto& other : others) other.join();
}

}  // namespace noisevote

#endif  // NOISEVOTE_TEAM_H_
