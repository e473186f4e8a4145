// SPDX-License-Identifier: Apache-2.0
// How near a real step comes to the simulated one: 8 ranks (threads), 32 micro-batches, stages that sleep for exactly their
// time, links of no latency and of 1.25 ms. Next to it, in the same run, a bare loop of hand-written semaphores that runs
// the same compute orders. Messages set out at their send, as simulate() has it and the bare loop does. (Under a strict
// rendezvous they also wait for their post, one ahead: a latency above a forward's time is then not hidden in full.) Goals: step / simulated at most 1.02 at 5 ms forward and 10 ms backward; within 0.5 % of the bare
// loop there and at 1 ms and 2 ms.
//   step_time [--json] [--repeats N] [--only SCHEDULE]
#include <array>
#include <barrier>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <benchmarks/support.hpp>
#include <semaphore.h>
#include <sys/prctl.h>

#include <pipewright/plan/steady.hpp>
#include <pipewright/transport/in_process.hpp>

namespace {

namespace pw = pipewright;
using clock_type = std::chrono::steady_clock;
constexpr int ranks = 8, micro_batches = 32;
constexpr int warm_up = 2, measured = 3;  // batches of a stream

struct times {
  double forward, backward, latency;  // seconds; forward and backward of a chunk
};

clock_type::time_point after(clock_type::time_point start, double seconds) {
  return start + std::chrono::duration_cast<clock_type::duration>(std::chrono::duration<double>(seconds));
}

void sleep_until(clock_type::time_point due) {
  auto const ns = due.time_since_epoch().count();
  timespec const until{ns / 1'000'000'000, ns % 1'000'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr) != 0) {}
}

struct sleeping {
  double forward_seconds, backward_seconds;
  void forward() const { sleep_until(after(clock_type::now(), forward_seconds)); }
  void backward() const { sleep_until(after(clock_type::now(), backward_seconds)); }
};

/// Seconds of a synchronous step, from the first rank's start to the last rank's end; or of a stream's batch in its steady
/// state, on rank 0. `run` is called on each rank with a function that is to be called before every batch.
class stopwatch {
 public:
  explicit stopwatch(bool is_stream) : is_stream_{is_stream}, all_(ranks) {}
  int batches() const { return is_stream_ ? warm_up + measured + 1 : 1; }
  void start_all() { all_.arrive_and_wait(); }
  void begin(int rank, int batch) {
    if (!is_stream_ || (rank == 0 && batch == warm_up)) starts_[static_cast<std::size_t>(rank)] = clock_type::now();
    if (is_stream_ && rank == 0 && batch == warm_up + measured) ends_[0] = clock_type::now();
  }
  void end(int rank) {
    if (!is_stream_) ends_[static_cast<std::size_t>(rank)] = clock_type::now();
  }
  double seconds() const {
    if (is_stream_) return std::chrono::duration<double>(ends_[0] - starts_[0]).count() / measured;
    return std::chrono::duration<double>(*std::ranges::max_element(ends_) - *std::ranges::min_element(starts_)).count();
  }

 private:
  bool is_stream_;
  std::barrier<> all_;
  std::array<clock_type::time_point, ranks> starts_{}, ends_{};
};

double engine_seconds(pw::plan_view plan, times t) {
  stopwatch watch(plan.is_stream());
  pw::in_process::run(plan,
                      [&](pw::in_process::endpoint& here) {
                        auto training =
                            pw::pipeline(plan, benchmarks::stages_of<sleeping>{plan.stages(), {t.forward, t.backward}},
                                         here, pw::sgd{});
                        benchmarks::empty_batch const batch;
                        watch.start_all();
                        for (int b = 0; b < watch.batches(); ++b) {
                          watch.begin(here.rank(), b);
                          training.step(batch);
                        }
                        watch.end(here.rank());
                        training.drain();
                      },
                      {.mode = pw::in_process::buffered, .latency = t.latency});
  return watch.seconds();
}

/// What somebody would write by hand: a semaphore for every boundary, and when each value may be used.
struct handed_over {
  explicit handed_over(std::size_t values) : due(values) { sem_init(&there, 0, 0); }
  ~handed_over() { sem_destroy(&there); }
  handed_over(handed_over const&) = delete;
  handed_over& operator=(handed_over const&) = delete;

  void send(int m, double latency) {
    due[static_cast<std::size_t>(m)] = after(clock_type::now(), latency);
    sem_post(&there);
  }
  void receive(int m, double latency) {
    while (sem_wait(&there) != 0) {}
    if (latency > 0) sleep_until(due[static_cast<std::size_t>(m)]);
  }

  sem_t there;
  std::vector<clock_type::time_point> due;
};

double bare_seconds(pw::rows_view<pw::instruction> programs, pw::plan_view plan, times t) {
  stopwatch watch(plan.is_stream());
  std::size_t const values = static_cast<std::size_t>(micro_batches * watch.batches());
  std::vector<std::unique_ptr<handed_over>> forward, backward;
  for (int s = 0; s < plan.stages(); ++s) {
    forward.push_back(std::make_unique<handed_over>(values));
    backward.push_back(std::make_unique<handed_over>(values));
  }
  sleeping const work{t.forward, t.backward};
  auto const run_rank = [&](int rank) {
    prctl(PR_SET_TIMERSLACK, 1UL);
    auto const elsewhere = [&](int s) { return s >= 0 && s < plan.stages() && plan.rank_of_stage[s] != rank; };
    watch.start_all();
    watch.begin(rank, 0);
    for (pw::instruction const& i : programs[rank]) {
      int const m = i.what.micro_batch;
      std::size_t const s = i.what.stage;
      if (i.what.what == pw::kind::forward) {
        if (m > 0 && m % micro_batches == 0 && s == 0) watch.begin(rank, m / micro_batches);
        if (elsewhere(i.what.stage - 1)) forward[s]->receive(m, t.latency);
        work.forward();
        if (elsewhere(i.what.stage + 1)) forward[s + 1]->send(m, t.latency);
      } else if (i.what.what == pw::kind::backward) {
        if (elsewhere(i.what.stage + 1)) backward[s]->receive(m, t.latency);
        work.backward();
        if (elsewhere(i.what.stage - 1)) backward[s - 1]->send(m, t.latency);
      }
    }
    watch.end(rank);
  };
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) threads.emplace_back(run_rank, r);
  for (auto& thread : threads) thread.join();
  return watch.seconds();
}

double simulated_seconds(pw::plan_view plan, times t) {
  pw::costs<double> cost{.forward = t.forward * plan.facts.chunks,
                         .backward_input = t.backward * plan.facts.chunks,
                         .backward_weight = 0,
                         .recompute = 0,
                         .transfer = t.latency};
  if (!plan.is_stream()) return pw::simulate(plan, cost).makespan;
  return micro_batches * (cost.forward + cost.backward_input) / (1 - pw::steady_bubble(plan, cost));
}

}  // namespace

int main(int argc, char** argv) try {
  bool json = false;
  int repeats = 5;
  std::string_view only;
  for (int i = 1; i < argc; ++i) {
    std::string_view const option = argv[i];
    if (option == "--json") json = true;
    else if (option == "--repeats" && i + 1 < argc) repeats = std::atoi(argv[++i]);
    else if (option == "--only" && i + 1 < argc) only = argv[++i];
    else throw pw::error("usage: step_time [--json] [--repeats N] [--only SCHEDULE]");
  }
  if (repeats < 1) throw pw::error("--repeats is at least 1");
  bool first = true;
  for (auto const& [forward, backward] : {std::pair{5e-3, 10e-3}, std::pair{1e-3, 2e-3}})
    for (double const latency : {0.0, 1.25e-3})
      for (auto const schedule : benchmarks::training_schedules) {
        if (!only.empty() && only != schedule) continue;
        times const t{forward, backward, latency};
        auto const plan = pw::make_plan(schedule, {.ranks = ranks, .micro_batches = micro_batches});
        pw::plan_view const view = plan.view();
        auto const unrolled =
            view.is_stream() ? pw::first_batches(view, warm_up + measured + 1) : pw::rows<pw::instruction>{};
        std::vector<double> engine, bare, ratio;
        int const runs = forward < 2e-3 ? 8 * repeats : repeats;  // the shorter a step, the more a late wake-up weighs
        for (int i = 0; i < runs; ++i) {  // first one, then the other, since machines drift; compared pair by pair
          auto const run_engine = [&] { engine.push_back(engine_seconds(view, t)); };
          if (i % 2 == 0) run_engine();
          bare.push_back(bare_seconds(view.is_stream() ? unrolled.view() : view.programs, view, t));
          if (i % 2 != 0) run_engine();
          ratio.push_back(engine.back() / bare.back());
        }
        double const simulated = simulated_seconds(view, t), ours = benchmarks::median(engine),
                     theirs = benchmarks::median(bare);
        std::printf(
            json ? "%s{\"schedule\": \"%s\", \"forward_s\": %g, \"backward_s\": %g, \"latency_s\": %g, "
                   "\"simulated_s\": %.6f, \"engine_s\": %.6f, "
                   "\"bare_s\": %.6f, \"engine_over_simulated\": %.4f, \"bare_over_simulated\": %.4f, "
                   "\"engine_over_bare\": %.4f}"
                 : "%s%-12s forward %g s, backward %g s, latency %g s: simulated %.4f s, engine %.4f s, bare %.4f s; "
                   "engine / simulated %.4f, bare / simulated %.4f, engine / bare %.4f\n",
            !json   ? ""
            : first ? "["
                    : ",\n ",
            schedule.data(), forward, backward, latency, simulated, ours, theirs, ours / simulated, theirs / simulated,
            benchmarks::median(ratio));
        std::fflush(stdout);
        first = false;
      }
  if (json) std::printf("]\n");
} catch (std::exception const& fault) {
  std::fprintf(stderr, "step_time: %s\n", fault.what());
  return 1;
}
