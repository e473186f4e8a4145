// SPDX-License-Identifier: Apache-2.0
// Next to c10d's Gloo alone, whose own thread moves bytes.
//   pipewright-run -n 2 overlap_over_gloo --repeats N
#include <ATen/ops/from_blob.h>

#include <pipewright/gloo/link.hpp>
#include <pipewright/launch/launch.hpp>

#include "overlap.hpp"

int main(int argc, char** argv) {
  namespace pw = pipewright;
  try {
    int const repeats = benchmarks::command_line(argc, argv).number("repeats");
    auto const place = pw::launch::find_place();
    auto const store = pw::gloo::store_of(place);
    std::vector<double> ours;
    {
      pw::gloo::link over(pw::gloo::part_of(store, "ours"), place.rank, place.size, place.address);
      pw::gloo::endpoint here(over);
      ours = benchmarks::seconds_left(repeats, here);
    }
    auto const options = c10d::ProcessGroupGloo::Options::create();
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1"));
    c10d::ProcessGroupGloo group(pw::gloo::part_of(store, "bare"), place.rank, place.size, options);
    std::vector<char> value(benchmarks::overlap_bytes);
    std::vector<at::Tensor> one{
        at::from_blob(value.data(), {static_cast<std::int64_t>(value.size())}, at::TensorOptions(at::kByte))};
    c10::intrusive_ptr<c10d::Work> work;
    auto const bare = benchmarks::seconds_left(
        repeats, [&] { group.barrier()->wait(); },
        [&] { work = place.rank == 0 ? group.send(one, 1, 0) : group.recv(one, 0, 0); }, [&] { work->wait(); });
    benchmarks::print_overlap(place.rank, ours, bare);
    group.barrier()->wait();  // rank 0 serves the store
  } catch (std::exception const& fault) {
    std::fprintf(stderr, "overlap_over_gloo: %s\n", fault.what());
    return 1;
  }
  return 0;
}
