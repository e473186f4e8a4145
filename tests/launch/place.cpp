// SPDX-License-Identifier: Apache-2.0
// Which rank a process takes itself for, by what stands in its environment. No process is started here.
#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/launch/launch.hpp>

namespace {

namespace launch = pipewright::launch;
using launch::source;
using variables = std::map<std::string, std::string>;

launch::environment reading(variables const& set) {
  return [&set](std::string const& name) -> std::optional<std::string> {
    auto const found = set.find(name);
    return found == set.end() ? std::nullopt : std::optional(found->second);
  };
}

/// The place, or the sentence that refuses it.
struct outcome {
  std::optional<launch::place> place;
  std::string sentence;
};

outcome ask(variables const& set, launch::arguments const& given = {}) {
  try {
    return {launch::find_place(reading(set), given), ""};
  } catch (pipewright::error const& fault) {
    return {std::nullopt, fault.what()};
  }
}

variables operator+(variables a, variables const& b) {
  for (auto const& [name, value] : b) a[name] = value;
  return a;
}

variables const own{{"PIPEWRIGHT_RANK", "2"},       {"PIPEWRIGHT_SIZE", "4"},        {"PIPEWRIGHT_LOCAL_RANK", "0"},
                    {"PIPEWRIGHT_LOCAL_SIZE", "2"}, {"PIPEWRIGHT_ADDRESS", "node1"}, {"PIPEWRIGHT_PORT", "2000"},
                    {"PIPEWRIGHT_RUN_ID", "own"}};
variables const torchrun{{"RANK", "2"},
                         {"WORLD_SIZE", "4"},
                         {"LOCAL_RANK", "0"},
                         {"LOCAL_WORLD_SIZE", "2"},
                         {"GROUP_RANK", "1"},
                         {"MASTER_ADDR", "node0"},
                         {"MASTER_PORT", "29500"},
                         {"TORCHELASTIC_RUN_ID", "job"},
                         {"TORCHELASTIC_RESTART_COUNT", "3"},
                         {"TORCHELASTIC_MAX_RESTARTS", "5"},
                         {"TORCHELASTIC_USE_AGENT_STORE", "True"}};
variables const open_mpi{{"OMPI_COMM_WORLD_RANK", "2"},
                         {"OMPI_COMM_WORLD_SIZE", "4"},
                         {"OMPI_COMM_WORLD_LOCAL_RANK", "0"},
                         {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"},
                         {"PMIX_RANK", "2"},
                         {"PMIX_NAMESPACE", "1234@0"}};
variables const mpich{{"PMI_RANK", "2"}, {"PMI_SIZE", "4"}, {"MPI_LOCALRANKID", "0"}, {"MPI_LOCALNRANKS", "2"}};
variables const srun{{"SLURM_PROCID", "2"},      {"SLURM_NTASKS", "4"},  {"SLURM_STEP_NUM_TASKS", "4"},
                     {"SLURM_LOCALID", "0"},     {"SLURM_NODEID", "1"},  {"SLURM_STEP_TASKS_PER_NODE", "2(x2)"},
                     {"SLURM_JOB_ID", "123456"}, {"SLURM_STEP_ID", "0"}, {"SLURM_STEP_NODELIST", "node[003-004]"}};

launch::place two_of_four(source from, std::string address = "", int port = 0, std::string run_id = "") {
  return {2, 4, 0, 2, std::move(address), port, std::move(run_id), false, from};
}

}  // namespace

TEST_CASE("each launcher alone") {
  CHECK(ask({}).place == launch::place{0, 1, 0, 1, "", 0, "", false, source::single});
  CHECK(ask(own).place == two_of_four(source::variables, "node1", 2000, "own"));
  auto served = two_of_four(source::torchrun, "node0", 29500, "job.3");
  served.store_is_served = true;
  CHECK(ask(torchrun).place == served);
  CHECK(ask(open_mpi).place == two_of_four(source::open_mpi, "", 0, "1234@0"));
  CHECK(ask(mpich).place == two_of_four(source::mpich));
  CHECK(ask(srun).place == two_of_four(source::slurm, "node003", 13456, "123456.0"));

  launch::arguments const given{2, 4, 0, 2, "here", 77, "mine"};
  CHECK(ask({}, given).place == two_of_four(source::arguments, "here", 77, "mine"));
  CHECK(ask({}, {2, 4}).place == launch::place{2, 4, {}, {}, "", 0, "", false, source::arguments});
  CHECK(ask({}, {.address = "a", .port = 5}).place == launch::place{0, 1, 0, 1, "a", 5, "", false, source::single});
}

TEST_CASE("all of them, agreeing: the first is taken, and fills its gaps from the others") {
  auto const everything = own + torchrun + open_mpi + mpich + srun;
  auto const place = ask(everything, {2, 4}).place;
  REQUIRE(place);
  CHECK(*place == two_of_four(source::arguments, "node1", 2000, "own"));  // its own port: nobody serves it
  CHECK(ask(variables{{"PIPEWRIGHT_RANK", "2"}, {"PIPEWRIGHT_SIZE", "4"}} + mpich).place ==
        two_of_four(source::variables));
}

TEST_CASE("torchrun's agent serves a store only where ranks meet at its port") {
  CHECK(ask(torchrun).place->store_is_served);
  CHECK_FALSE(ask(torchrun + variables{{"TORCHELASTIC_USE_AGENT_STORE", "False"}}).place->store_is_served);
  CHECK_FALSE(ask(torchrun + variables{{"TORCHELASTIC_USE_AGENT_STORE", ""}}).place->store_is_served);
  auto const moved = ask(torchrun + variables{{"PIPEWRIGHT_PORT", "29501"}}).place;
  CHECK(moved->port == 29501);
  CHECK(moved->address == "node0");
  CHECK_FALSE(moved->store_is_served);
  CHECK_FALSE(ask(torchrun, {.address = "elsewhere"}).place->store_is_served);
  CHECK(ask(torchrun + variables{{"TORCHELASTIC_USE_AGENT_STORE", "maybe"}}).sentence ==
        "TORCHELASTIC_USE_AGENT_STORE=maybe is neither True nor False: correct it or unset it");
}

TEST_CASE("what a process of pipewright-run finds is what was meant") {
  launch::place const meant{1, 3, 1, 3, "127.0.0.1", 12345, "run-7", false, source::torchrun};
  auto const said = launch::torchrun_variables(meant);
  CHECK(ask(variables(said.begin(), said.end())).place == meant);
  // The same below another launcher, whose variables it inherits.
  CHECK(ask(srun + open_mpi + variables(said.begin(), said.end())).place->rank == 1);
}

TEST_CASE("a job script of SLURM: variables by hand complete what srun says") {
  auto const place = ask(srun + variables{{"MASTER_ADDR", "node003"}, {"MASTER_PORT", "29500"}}).place;
  CHECK(*place == two_of_four(source::slurm, "node003", 29500, "123456.0"));
  CHECK(ask(srun + variables{{"MASTER_ADDR", "ib-node003"}}).place->port == 13456);
}

TEST_CASE("SLURM: what is no rank of a step is one process") {
  // sbatch -n 4, in the script itself; salloc -n 4, in its shell
  variables const script{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}, {"SLURM_LOCALID", "0"}};
  CHECK(ask(script).place->from == source::single);
  CHECK(ask({{"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "7"}}).place->from == source::single);
  // a shell in a step of its own, in an allocation of 4
  auto const shell = script + variables{{"SLURM_STEP_ID", "4294967290"}, {"SLURM_STEP_NUM_TASKS", "1"}};
  CHECK(ask(shell).place->size == 1);
  CHECK(ask(shell, {1, 2}).place->rank == 1);
}

TEST_CASE("SLURM: the tasks of one machine") {
  auto local_size = [](variables const& more) { return ask(srun + more).place->local_size; };
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", "3,1"}}) == 1);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", "1,2,1"}}) == 2);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", "1(x2)"}, {"SLURM_LOCALID", "0"}}) == 1);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", ""}}) == std::nullopt);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", ""}, {"SLURM_NTASKS_PER_NODE", "2"}}) == 2);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", "what"}}) == std::nullopt);
  CHECK(local_size({{"SLURM_STEP_TASKS_PER_NODE", "9(x2)"}}) == std::nullopt);  // more than all ranks: not of this step
}

TEST_CASE("half of what is needed") {
  for (auto const& [set, sentence] : std::vector<std::pair<variables, std::string>>{
           {{{"RANK", "1"}}, "RANK=1 is given but WORLD_SIZE is not: give both or neither"},
           {{{"WORLD_SIZE", "4"}}, "WORLD_SIZE=4 is given but RANK is not: give both or neither"},
           {{{"RANK", ""}, {"WORLD_SIZE", "4"}}, "WORLD_SIZE=4 is given but RANK is not: give both or neither"},
           {{{"PIPEWRIGHT_SIZE", "4"}}, "PIPEWRIGHT_SIZE=4 is given but PIPEWRIGHT_RANK is not: give both or neither"},
           {{{"OMPI_COMM_WORLD_RANK", "0"}},
            "OMPI_COMM_WORLD_RANK=0 is given but OMPI_COMM_WORLD_SIZE is not: give both or neither"},
           {{{"PMI_SIZE", "4"}}, "PMI_SIZE=4 is given but PMI_RANK is not: give both or neither"},
           {{{"SLURM_STEP_ID", "0"}, {"SLURM_PROCID", "3"}},
            "SLURM_PROCID=3 is given but SLURM_NTASKS is not: give both or neither"},
           {{{"PMIX_RANK", "1"}},
            "PMIX_RANK=1 names a rank, but nothing says how many there are: start the program with mpirun, or set "
            "PIPEWRIGHT_RANK and PIPEWRIGHT_SIZE"},
           {{{"MASTER_ADDR", "a"}}, "MASTER_ADDR=a is given but no port is: set MASTER_PORT or PIPEWRIGHT_PORT"},
           {{{"PIPEWRIGHT_PORT", "1"}},
            "PIPEWRIGHT_PORT=1 is given but no address is: set MASTER_ADDR or PIPEWRIGHT_ADDRESS"}})
    CHECK(ask(set).sentence == sentence);
  CHECK(ask({}, {.rank = 1}).sentence == "argument rank=1 is given but argument size is not: give both or neither");
  CHECK(ask({}, {.size = 1}).sentence == "argument size=1 is given but argument rank is not: give both or neither");
}

TEST_CASE("malformed values, of every number there is") {
  struct number {
    char const* name;
    variables const* others;
    bool at_least_one = false;
  };
  for (auto const& [name, others, at_least_one] : std::vector<number>{{"PIPEWRIGHT_RANK", &own},
                                                                      {"PIPEWRIGHT_SIZE", &own, true},
                                                                      {"PIPEWRIGHT_LOCAL_RANK", &own},
                                                                      {"PIPEWRIGHT_LOCAL_SIZE", &own, true},
                                                                      {"PIPEWRIGHT_PORT", &own, true},
                                                                      {"RANK", &torchrun},
                                                                      {"WORLD_SIZE", &torchrun, true},
                                                                      {"LOCAL_RANK", &torchrun},
                                                                      {"LOCAL_WORLD_SIZE", &torchrun, true},
                                                                      {"MASTER_PORT", &torchrun, true},
                                                                      {"TORCHELASTIC_RESTART_COUNT", &torchrun},
                                                                      {"OMPI_COMM_WORLD_RANK", &open_mpi},
                                                                      {"OMPI_COMM_WORLD_SIZE", &open_mpi, true},
                                                                      {"OMPI_COMM_WORLD_LOCAL_RANK", &open_mpi},
                                                                      {"OMPI_COMM_WORLD_LOCAL_SIZE", &open_mpi, true},
                                                                      {"PMI_RANK", &mpich},
                                                                      {"PMI_SIZE", &mpich, true},
                                                                      {"MPI_LOCALRANKID", &mpich},
                                                                      {"MPI_LOCALNRANKS", &mpich, true},
                                                                      {"SLURM_PROCID", &srun},
                                                                      {"SLURM_STEP_NUM_TASKS", &srun, true},
                                                                      {"SLURM_LOCALID", &srun},
                                                                      {"SLURM_JOB_ID", &srun}}) {
    CAPTURE(name);
    for (std::string const text :
         {"abc", "1x", " 1", "1 ", "+1", "0x1", "1.0", "1e1", "--1", "-", "\xc3\xbc", "1\n", "nan"}) {
      CHECK(ask(*others + variables{{name, text}}).sentence ==
            name + ("=" + text) + " is not a whole number: correct it or unset it");
    }
    for (std::string const text : {"-1", "-99999999999999999999999"}) {
      auto const sentence = ask(*others + variables{{name, text}}).sentence;
      CAPTURE(sentence);
      CHECK(sentence.starts_with(name + ("=" + text) + (at_least_one ? " is not between 1 and " : " is negative")));
    }
    if (at_least_one)
      CHECK(ask(*others + variables{{name, "0"}}).sentence.find(" is not between 1 and ") != std::string::npos);
    if (std::string_view(name) != "SLURM_JOB_ID")
      CHECK(ask(*others + variables{{name, "4294967297"}}).sentence.find(" is not between ") != std::string::npos);
    CHECK(ask(*others + variables{{name, "99999999999999999999999"}}).sentence ==
          name + std::string("=99999999999999999999999 is too large: correct it or unset it"));
  }
  CHECK(ask({{"RANK", "4"}, {"WORLD_SIZE", "4"}}).sentence == "RANK=4 is not below WORLD_SIZE=4: ranks count from 0");
  CHECK(ask(torchrun + variables{{"LOCAL_RANK", "2"}}).sentence ==
        "LOCAL_RANK=2 is not below LOCAL_WORLD_SIZE=2: ranks count from 0");
  CHECK(ask(torchrun + variables{{"LOCAL_WORLD_SIZE", "5"}}).sentence ==
        "LOCAL_WORLD_SIZE=5 is above WORLD_SIZE=4: a machine has at most all ranks");
  CHECK(ask(torchrun + variables{{"MASTER_PORT", "65536"}}).sentence ==
        "MASTER_PORT=65536 is not between 1 and 65535: correct it or leave it out");
  CHECK(ask({}, {-1, 4}).sentence == "argument rank=-1 is negative: correct it or leave it out");
  CHECK(ask({}, {0, 0}).sentence == "argument size=0 is not between 1 and 2147483647: correct it or leave it out");
  CHECK(ask({}, {4, 4}).sentence == "argument rank=4 is not below argument size=4: ranks count from 0");
  CHECK(ask({}, {.address = "", .port = 1}).sentence ==
        "argument address='' is not the name or address of a host: correct it or leave it out");
  CHECK(ask({}, {.address = "a", .port = 0}).sentence ==
        "argument port=0 is not between 1 and 65535: correct it or leave it out");
  CHECK(ask({{"MASTER_ADDR", "a b"}, {"MASTER_PORT", "1"}}).sentence ==
        "MASTER_ADDR='a b' is not the name or address of a host: correct it or leave it out");
  CHECK(
      ask(srun + variables{{"SLURM_STEP_NODELIST", "node[1"}}).sentence ==
      "SLURM_STEP_NODELIST: 'node[1' is not a list of hosts as SLURM writes it (node[003-010,015],gpu1): a bracket is "
      "not closed");
}

TEST_CASE("contradictions") {
  std::string const advice = ": start the program with one launcher, and unset what another one or a script left";
  // exported once in a script: every process takes itself for rank 0
  variables const by_hand{{"RANK", "0"}, {"WORLD_SIZE", "4"}};
  CHECK(ask(by_hand + srun).sentence == "RANK=0 contradicts SLURM_PROCID=2" + advice);
  CHECK(ask(by_hand + open_mpi).sentence == "RANK=0 contradicts OMPI_COMM_WORLD_RANK=2" + advice);
  CHECK(ask(variables{{"RANK", "0"}, {"WORLD_SIZE", "1"}} + mpich).sentence ==
        "RANK=0 contradicts PMI_RANK=2, WORLD_SIZE=1 contradicts PMI_SIZE=4" + advice);
  CHECK(ask(own + variables{{"RANK", "2"}, {"WORLD_SIZE", "3"}}).sentence ==
        "PIPEWRIGHT_SIZE=4 contradicts WORLD_SIZE=3" + advice);
  CHECK(ask(own, {1, 4}).sentence == "argument rank=1 contradicts PIPEWRIGHT_RANK=2" + advice);
  CHECK(ask(torchrun, {2, 8}).sentence == "argument size=8 contradicts WORLD_SIZE=4" + advice);
  CHECK(ask(open_mpi + mpich + variables{{"PMI_RANK", "1"}}).sentence ==
        "OMPI_COMM_WORLD_RANK=2 contradicts PMI_RANK=1" + advice);
}

TEST_CASE("a launcher in a launcher is no contradiction") {
  // srun -n 2 torchrun --nproc-per-node 2; mpirun -n 2 torchrun --nproc-per-node 2
  CHECK(ask(torchrun + srun + variables{{"SLURM_PROCID", "1"}, {"SLURM_STEP_NUM_TASKS", "2"}}).place->rank == 2);
  CHECK(ask(torchrun + open_mpi + variables{{"OMPI_COMM_WORLD_RANK", "1"}}).place->from == source::torchrun);
  // mpirun in an allocation: srun starts its daemons, one a machine
  auto const daemon = srun + variables{{"SLURM_PROCID", "0"}, {"SLURM_STEP_NUM_TASKS", "1"}, {"SLURM_NTASKS", "1"}};
  CHECK(ask(open_mpi + daemon).place == two_of_four(source::open_mpi, "", 0, "1234@0"));
  CHECK(ask(mpich + srun + variables{{"SLURM_PROCID", "1"}}).place->from == source::mpich);
  CHECK(ask(open_mpi + srun + mpich + variables{{"PMI_RANK", "1"}}).place->from == source::open_mpi);
  // ranks by hand in one process of mpirun
  CHECK(ask({{"OMPI_COMM_WORLD_RANK", "0"}, {"OMPI_COMM_WORLD_SIZE", "1"}}, {3, 4}).place->rank == 3);
}

TEST_CASE("every mix of sources, each absent, agreeing, differing, or of one process") {
  // Said again in other words than the code's: a table of who is asked, and of who may tell of somebody else.
  enum state { absent, agrees, differs, larger, alone, states };
  struct pair {
    char const *rank, *size;
  };
  std::array<pair, 6> const names{{{"", ""},
                                   {"PIPEWRIGHT_RANK", "PIPEWRIGHT_SIZE"},
                                   {"RANK", "WORLD_SIZE"},
                                   {"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                   {"PMI_RANK", "PMI_SIZE"},
                                   {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"}}};
  std::array<pair, states> const values{{{"", ""}, {"2", "4"}, {"1", "4"}, {"2", "8"}, {"0", "1"}}};
  int taken = 0, refused = 0;
  for (int mix = 0; mix < 2 * 15625; ++mix) {
    bool const torchrun_started_it = mix % 2 == 1;
    std::array<int, 6> state{};
    for (int rest = mix / 2, i = 0; i < 6; ++i, rest /= states) state[i] = rest % states;
    variables set;
    launch::arguments given;
    for (int i = 0; i < 6; ++i) {
      if (state[i] == absent) continue;
      if (i == 0) {
        given.rank = values[state[i]].rank[0] - '0';
        given.size = values[state[i]].size[0] - '0';
      } else {
        set[names[i].rank] = values[state[i]].rank;
        set[names[i].size] = values[state[i]].size;
      }
    }
    if (torchrun_started_it) set["TORCHELASTIC_RUN_ID"] = "x";

    int first = -1;
    bool conflict = false;
    for (int i = 0; i < 6; ++i) {
      if (state[i] == absent) continue;
      if (first < 0) {
        first = i;
        continue;
      }
      bool const is_launcher = i > 2 || (i == 2 && torchrun_started_it);
      bool const below_torchrun = i > 2 && state[2] != absent && torchrun_started_it;
      bool const below_mpi = i == 5 && (state[3] != absent || state[4] != absent);
      bool const pmi_of_srun = i == 4 && state[3] != absent && state[5] != absent;
      bool const of_another = is_launcher && (state[i] == alone || below_torchrun || below_mpi || pmi_of_srun);
      if (!of_another && state[i] != state[first]) conflict = true;
    }
    auto const result = ask(set, given);
    CAPTURE(mix);
    CAPTURE(result.sentence);
    if (conflict) {
      REQUIRE(result.sentence.find(" contradicts ") != std::string::npos);
      ++refused;
    } else {
      REQUIRE(result.place);
      auto const expected = first < 0 ? pair{"0", "1"} : values[state[first]];
      REQUIRE(std::to_string(result.place->rank) == expected.rank);
      REQUIRE(std::to_string(result.place->size) == expected.size);
      REQUIRE(static_cast<int>(result.place->from) == (first < 0 ? 6 : first));
      ++taken;
    }
  }
  CHECK(taken > 1000);
  CHECK(refused > 1000);
}

TEST_CASE("the first host of a list") {
  using launch::slurm::first_host;
  for (auto const& [list, host] :
       std::vector<std::pair<std::string, std::string>>{{"node[003-010,015],gpu1", "node003"},
                                                        {"gpu1,node[003-010]", "gpu1"},
                                                        {"node7", "node7"},
                                                        {"node[15]", "node15"},
                                                        {"node[015,003-010]", "node015"},
                                                        {"rack[1-2]node[01-04]", "rack1node01"},
                                                        {"n[1-2]-ib.cluster.example", "n1-ib.cluster.example"},
                                                        {"a-b_c.d[0-9],e", "a-b_c.d0"},
                                                        {"node[0999-1001]", "node0999"},
                                                        {"a,b,c", "a"}})
    CHECK(first_host(list) == host);
  for (std::string const list :
       {"",         ",",        "a,",        ",a",      "a,,b",  "node[",    "node[]",    "node[1",      "node[1-",
        "node[1-]", "node[1,]", "node[,1]",  "node[a]", "node]", "node[1]]", "node[[1]]", "node[1-2-3]", "a b",
        "a;b",      "node[1],", "node[1],[", "\xff",    "$(x)"}) {
    CAPTURE(list);
    CHECK_THROWS_WITH_AS(first_host(list), doctest::Contains("is not a list of hosts"), pipewright::error);
  }
}

TEST_CASE("ports of job steps: below outgoing ones, and never two of one job alike") {
  using launch::slurm::port_of;
  std::mt19937_64 random(7);
  for (int i = 0; i < 10000; ++i) {
    auto const job = random() >> (random() % 64), step = random() % 1000;
    auto const port = port_of(job, step);
    REQUIRE(port >= 10000);
    REQUIRE(port < 30000);
    REQUIRE(port != port_of(job, step + 1));
    REQUIRE(port != port_of(job + 1, step));
  }
}

TEST_CASE("whatever stands in the environment: a place that holds together, or a sentence that quotes it") {
  std::vector<std::string> const names{"PIPEWRIGHT_RANK",
                                       "PIPEWRIGHT_SIZE",
                                       "PIPEWRIGHT_LOCAL_RANK",
                                       "PIPEWRIGHT_LOCAL_SIZE",
                                       "PIPEWRIGHT_ADDRESS",
                                       "PIPEWRIGHT_PORT",
                                       "PIPEWRIGHT_RUN_ID",
                                       "RANK",
                                       "WORLD_SIZE",
                                       "LOCAL_RANK",
                                       "LOCAL_WORLD_SIZE",
                                       "MASTER_ADDR",
                                       "MASTER_PORT",
                                       "TORCHELASTIC_RUN_ID",
                                       "TORCHELASTIC_RESTART_COUNT",
                                       "TORCHELASTIC_USE_AGENT_STORE",
                                       "OMPI_COMM_WORLD_RANK",
                                       "OMPI_COMM_WORLD_SIZE",
                                       "OMPI_COMM_WORLD_LOCAL_RANK",
                                       "OMPI_COMM_WORLD_LOCAL_SIZE",
                                       "PMI_RANK",
                                       "PMI_SIZE",
                                       "PMIX_RANK",
                                       "PMIX_NAMESPACE",
                                       "PMI_JOBID",
                                       "MPI_LOCALRANKID",
                                       "MPI_LOCALNRANKS",
                                       "SLURM_PROCID",
                                       "SLURM_NTASKS",
                                       "SLURM_STEP_NUM_TASKS",
                                       "SLURM_LOCALID",
                                       "SLURM_NODEID",
                                       "SLURM_NTASKS_PER_NODE",
                                       "SLURM_STEP_TASKS_PER_NODE",
                                       "SLURM_TASKS_PER_NODE",
                                       "SLURM_JOB_ID",
                                       "SLURM_STEP_ID",
                                       "SLURM_STEP_NODELIST",
                                       "SLURM_LAUNCH_NODE_IPADDR"};
  std::mt19937_64 random(2026);
  auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
  auto junk = [&] {
    static constexpr std::string_view alphabet = "0123456789-+.,[](x) abn\t\n\x80\xff";
    std::string text(below(12), ' ');
    for (char& c : text) c = alphabet[below(alphabet.size())];
    return text;
  };
  std::vector<std::string> const likely{"0",
                                        "1",
                                        "1",
                                        "2",
                                        "3",
                                        "4",
                                        "4",
                                        "8",
                                        "node[001-004,7]",
                                        "2(x2)",
                                        "1,3",
                                        "True",
                                        "29500",
                                        "70000",
                                        "-1",
                                        "",
                                        "99999999999999999999"};
  int places = 0, sentences = 0;
  for (int round = 0; round < 10000; ++round) {
    variables set;
    if (round % 2 == 0) {  // a sane one, spoilt here and there
      for (auto const* one : {&own, &torchrun, &open_mpi, &mpich, &srun})
        if (below(3) == 0) set = set + *one;
      for (auto i = below(3); i > 0; --i)
        set[names[below(names.size())]] = below(3) == 0 ? junk() : likely[below(likely.size())];
    } else {
      for (auto i = below(12); i > 0; --i)
        set[names[below(names.size())]] = below(6) == 0 ? junk() : likely[below(likely.size())];
    }
    auto const result = ask(set);
    if (result.place) {
      ++places;
      auto const& p = *result.place;
      REQUIRE(0 <= p.rank);
      REQUIRE(p.rank < p.size);
      if (p.local_rank) REQUIRE(*p.local_rank < p.local_size.value_or(p.size));
      if (p.local_rank) REQUIRE(*p.local_rank >= 0);
      if (p.local_size) REQUIRE((1 <= *p.local_size && *p.local_size <= p.size));
      REQUIRE(p.address.empty() == (p.port == 0));
      REQUIRE((0 <= p.port && p.port <= 65535));
      REQUIRE((!p.store_is_served || p.has_rendezvous()));
      REQUIRE(p == *ask(set).place);
    } else {
      ++sentences;
      bool quotes = false;
      for (auto const& [name, value] : set) quotes = quotes || result.sentence.find(name) != std::string::npos;
      CAPTURE(result.sentence);
      REQUIRE(quotes);
    }
  }
  CHECK(places > 1000);
  CHECK(sentences > 1000);
}
