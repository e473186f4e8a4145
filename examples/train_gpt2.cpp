// SPDX-License-Identifier: Apache-2.0
// Question: how does a GPT-2 train through a pipeline? Trains one on any text, under any schedule; `demo` runs them all.
// Exit code 0: done; 2: it cannot be done, and why.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <pipewright/gpt2/load.hpp>
#include <pipewright/gpt2/model.hpp>
#include <pipewright/gpt2/saved_training.hpp>

#include "tool/answer.hpp"
#include "train_gpt2/cuda_half.hpp"
#include "train_gpt2/data.hpp"
#include "train_gpt2/demo.hpp"
#include "train_gpt2/launcher.hpp"
#include "train_gpt2/libtorch_half.hpp"
#include "train_gpt2/plan_file.hpp"
#include "train_gpt2/processes.hpp"
#include "train_gpt2/report.hpp"
#include "train_gpt2/request.hpp"
#include "train_gpt2/settings.hpp"
#include "train_gpt2/start.hpp"
#include "train_gpt2/training.hpp"

namespace {

namespace pw = pipewright;

/// A number between two others; neither is nan.
CLI::Validator between(double low, double high) {
  return {[=](std::string const& text) {
            char* end = nullptr;
            double const x = std::strtod(text.c_str(), &end);
            bool const fits = end != text.c_str() && *end == '\0' && x >= low && x <= high;
            return fits ? "" : fmt::format("'{}' is no number from {:g} to {:g}", text, low, high);
          },
          fmt::format("{:g} - {:g}", low, high)};
}
/// A whole number that 64 bits hold; CLI11 itself would take -1 and what is too large.
CLI::Validator whole_number() {
  return {[](std::string const& text) {
            std::uint64_t x = 0;
            auto const [end, code] = std::from_chars(text.data(), text.data() + text.size(), x);
            bool const fits = code == std::errc{} && end == text.data() + text.size();
            return fits ? "" : fmt::format("'{}' is no whole number from 0 to 2^64 - 1", text);
          },
          ""};
}

void add_model(CLI::App& app, trainer::request& r, std::string& model, double& dropout) {
  app.add_option("--model", model,
                 "tiny, small, medium, gpt2, or sizes: layers=8,width=64,heads=4,positions=64,vocabulary=256");
  app.add_option(
      "--data", r.data,
      "A file of text, SQuAD's contexts (.json) or tokens as llm.c writes them (.bin); without it the library's "
      "own source");
  app.add_option("--sequences", r.sequences, "Sequences of a micro-batch")->check(CLI::Range(1, 4096));
  app.add_option("--length", r.length,
                 "Tokens of a sequence, at which documents are cut; without it as many as the model has positions")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option("-p,--ranks", r.ranks,
                 "P, pipeline ranks: threads, or the processes of a launcher, which says how many")
      ->check(CLI::Range(1, 64));
  app.add_option("--steps", r.steps, "Steps of M micro-batches each, those before a --resume included")
      ->check(CLI::Range(1, 10'000'000));
  app.add_option("--learning-rate", r.learning_rate, "The highest learning rate")->check(between(0, 1e3));
  app.add_option("--dropout", dropout, "Probability of all dropouts")->check(between(0, 0.99));
  app.add_option("--seed", r.seed, "Of weights, data order and dropout")->check(whole_number());
  app.add_option("--sample", r.sample, "Tokens of the text that is written at the end; 0: none")
      ->check(CLI::Range(0, 100'000));
  app.add_option("--pace", r.pace,
                 "Slow devices: an action takes this many times its processor time, so that more ranks than cores run "
                 "side by side")
      ->check(between(1, 1000));
}

void add_data(CLI::App& app, trainer::request& r) {
  app.add_option(
      "--tokenizer", r.tokenizer,
      "A folder with GPT-2's tokenizer (tokenizer.json, or vocab.json and merges.txt); without it a token a byte");
  app.add_option("--loss-on", r.loss_on,
                 "Of documents: all tokens, padding included, or real ones only, counted per token")
      ->check(CLI::IsMember({"all", "real"}));
  app.add_option("--order", r.order, "Of documents: shuffled by the seed (without it), as-they-stand or by-length")
      ->check(CLI::IsMember({"shuffled", "as-they-stand", "by-length"}));
  app.add_option("--pad-to", r.pad_to, "Tokens of every sequence of documents; without it as the longest of its batch")
      ->check(CLI::Range(1, 1 << 20));
  app.add_option(
      "--weights", r.weights,
      "A safetensors file of weights to start from, or a folder of Hugging Face's, whose config.json says the "
      "model");
  app.add_option("--save", r.save, "A folder for checkpoints, step-<number>; each is a model of Hugging Face's too");
  app.add_option("--save-every", r.save_every, "Steps between two checkpoints; without it one at the end")
      ->check(CLI::Range(1, 10'000'000));
  app.add_option("--keep", r.keep, "Checkpoints that stay; older ones are removed")->check(CLI::Range(1, 1'000'000));
  app.add_option(
      "--resume", r.resume,
      "Go on from a checkpoint, or from the newest of a folder; options that are not said are the checkpoint's");
}

void add_training(CLI::App& app, trainer::request& r, std::string& recompute) {
  app.add_option("-s,--schedule", r.schedule, "sequential, gpipe, flush, interleaved, 1f1b, 1f1b-vsync or 2bw");
  app.add_option("-m,--micro-batches", r.micro_batches, "M, micro-batches of a step")->check(CLI::Range(1, 4096));
  app.add_option("-v,--chunks", r.chunks, "V, stages of each rank (interleaved: 2)")->check(CLI::Range(1, 64));
  app.add_option("-g,--group", r.group, "G, micro-batches that interleaved runs through a chunk before the next")
      ->check(CLI::Range(1, 4096));
  app.add_option(
      "--balance", r.cut,
      "Layers of each stage, embedding and head being one each: 4,2,2,2; or stages alike in cost, parameters, "
      "layers (uniform) or layers of a type (type:GPT2Block)");
  app.add_flag("--tied", r.tied, "One weight for embedding and head, as Hugging Face has it; else the head is a copy");
  app.add_option("--optimizer", r.optimizer, "sgd, adam or adamw")->check(CLI::IsMember({"sgd", "adam", "adamw"}));
  app.add_option("--rate-shape", r.rate_shape, "The learning rate after the warm-up: constant, linear or cosine")
      ->check(CLI::IsMember({"constant", "linear", "cosine"}));
  app.add_option("--warm-up", r.warm_up, "Steps over which the learning rate rises")->check(CLI::Range(0, 10'000'000));
  app.add_option("--weight-decay", r.weight_decay, "Of matrices; biases and norms do not decay")
      ->check(between(0, 1e3));
  app.add_option("--momentum", r.momentum, "Of sgd")->check(between(0, 1));
  app.add_option("--accumulate", r.accumulate, "Steps between two updates; synchronous schedules only")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--clip", r.clip, "Largest norm of the whole model's gradient; 0: no clipping")
      ->check(between(0, 1e9));
  app.add_flag("--clip-per-stage", r.clip_per_stage, "Clip each stage by its own norm, which every schedule can do");
  app.add_option(
         "--recompute", recompute,
         "Run forwards again before their backwards instead of keeping what they saved: never, except-last or always")
      ->check(CLI::IsMember({"never", "except-last", "except_last", "always"}));
  app.add_option("--eval-every", r.evaluate_every, "Steps between looks at the held-out text; 0: at the end only")
      ->check(CLI::Range(0, 10'000'000));
  app.add_option("--backend", r.backend,
                 "Who computes: host (a BLAS), libtorch (torch's modules), or cuda (kernels of the library's own)")
      ->check(CLI::IsMember({"host", "libtorch", "cuda"}));
  app.add_option(
      "--device", r.device,
      "Where libtorch or cuda computes: cpu (libtorch); cuda, which with --backend cuda is rank by rank the GPUs "
      "of CUDA_VISIBLE_DEVICES, round and round; or one of them: cuda:1, ...");
  app.add_option("--precision", r.precision, "Of cuda's values: bf16, with weights in fp32 beside, or fp32")
      ->check(CLI::IsMember({"bf16", "fp32"}));
  app.add_flag("--graphs,!--no-graphs", r.graphs,
               "Whether cuda's steps are CUDA graphs, one for all ranks of a GPU: by default they are, but over nccl "
               "(no GPU has run that yet); else kernels are queued one by one");
  app.add_flag("--deterministic", r.deterministic,
               "Let cuda choose nothing by timing, so that two runs have the same bits");
  app.add_option(
         "--transport", r.transport,
         "in-process: ranks are threads; mpi, gloo: they are processes. Without it the launcher says so: mpirun -np P "
         "train_gpt2 means mpi, pipewright-run -n P train_gpt2 or torchrun gloo, none in-process; srun needs it. With "
         "--backend cuda: cuda-loopback (ranks are threads), or nccl under a launcher (processes)")
      ->check(CLI::IsMember({"in-process", "mpi", "gloo", "cuda-loopback", "nccl"}));
  app.add_option("--rank", r.rank, "Which rank this process is, where no launcher says it (gloo)")
      ->check(CLI::Range(0, 63));
  app.add_option("--rendezvous", r.rendezvous,
                 "HOST:PORT where the ranks meet, where no launcher says it (gloo); rank 0 listens there");
  app.add_option("--deadline", r.deadline, "Seconds that a rank waits for another before it gives up")
      ->check(between(0.001, 1e6));
  app.add_option("--trace", r.trace,
                 "Write the measured timeline of the last step: Perfetto JSON, or a picture if the name ends in .svg");
  app.add_option("--json", r.json, "Write all figures; - is the standard output");
  app.add_flag("--dry-run", r.dry_run, "Say the cut, the bytes and the predicted bubble, and run nothing");
  app.add_flag("-q,--quiet", r.quiet, "No lines on the way");
}

/// The sizes of a model: those of a checkpoint, of a folder of weights, or as the command line has them.
void settle_model(trainer::request& r, CLI::App const& app, std::string const& sizes, double dropout,
                  std::optional<pw::gpt2::saved_training> const& saved) {
  namespace fs = std::filesystem;
  bool const is_said = app.count("--model") > 0, drops = app.count("--dropout") > 0;
  std::optional<pw::gpt2::configuration> found;
  if (saved) found = saved->model().sizes;
  else if (!r.weights.empty() && fs::exists(fs::path(r.weights) / "config.json"))
    found = pw::gpt2::read_configuration(r.weights).sizes;
  if (!found || is_said) r.model = trainer::parse_model(sizes);
  if (found && is_said) {
    auto said = r.model;
    said.embedding_dropout = found->embedding_dropout;
    said.attention_dropout = found->attention_dropout;
    said.residual_dropout = found->residual_dropout;
    if (said != *found)
      throw pw::error(fmt::format("--model {} is not the model of {}; leave it out", sizes,
                                  saved ? saved->folder().string() : r.weights));
  }
  if (found) r.model = *found;
  if (!found || drops)
    r.model.embedding_dropout = r.model.attention_dropout = r.model.residual_dropout = static_cast<float>(dropout);
}

/// Where a training starts, which must not be behind what it would save over.
trainer::origin origin_of(trainer::request const& r, std::optional<pw::gpt2::saved_training> saved) {
  trainer::origin from{.file = {}, .saved = std::move(saved)};
  if (!r.weights.empty()) {
    from.file.emplace(r.weights);
    if (std::filesystem::is_directory(r.weights) && std::filesystem::exists(r.weights + "/config.json"))
      pw::gpt2::check(*from.file, pw::gpt2::read_configuration(r.weights));
    else static_cast<void>(pw::gpt2::names_in(*from.file, r.model));  // each there, and in its shape
  }
  if (from.saved && from.saved->record().steps >= r.steps)
    throw pw::error(fmt::format("checkpoint {} has done {} steps already; ask for more --steps than that in all",
                                from.saved->folder().string(), from.saved->record().steps));
  auto const newest = r.save.empty() ? std::nullopt : pw::gpt2::newest_checkpoint(r.save);
  if (newest && *newest > from.steps())
    throw pw::error(
        fmt::format("folder {} holds a checkpoint of step {} of another training; go on from it with --resume "
                    "{}, or choose another folder to --save to",
                    r.save, *newest, r.save));
  return from;
}

void train(trainer::request const& r, std::optional<pw::gpt2::saved_training> saved) {
  trainer::check(r);
  if (r.dry_run && r.transport != "in-process" && r.transport != "cuda-loopback")
    throw pw::error(fmt::format("--dry-run runs nothing, so leave out --transport {}", r.transport));
  static auto const on = trainer::processes_of(r);  // ended after main() has said what went wrong
  bool const talks = !r.quiet && r.json != "-";
  bool const speaks = on->rank() == 0;  // of several processes one
  if (talks && speaks && r.backend == "host" && !r.dry_run) trainer::advise_on_blas("train_gpt2");
  auto const from = origin_of(r, std::move(saved));
  std::string_view const fresh_line = isatty(STDOUT_FILENO) == 1 ? "\r\033[K" : "";
  if (r.dry_run) {
    if (!r.data.empty()) trainer::load_data(r);  // what cannot be read is said now
    auto const p = trainer::plan_training(r, trainer::operations_of(r));
    if (!r.json.empty()) trainer::write_json(r.json, trainer::prospect_json(r, p));
    if (r.json != "-") fmt::print("{}", trainer::describe(r, p));
    return;
  }
  auto const data = trainer::load_data(r);
  // Refuses what cannot be planned or held before anything is timed.
  auto p = trainer::plan_training(r, trainer::operations_of(r));
  if (r.device == "cpu") trainer::check_memory(p, on->ranks_here(r.ranks));
  auto const* const half = r.backend == "libtorch" ? &trainer::load_libtorch_half("--backend libtorch") : nullptr;
  auto const* const on_cuda = r.backend == "cuda" ? &trainer::load_cuda_half("--backend cuda") : nullptr;
  // What was measured is shown, and nothing else depends on it: others would compute beside, and in vain. A device's times are
  // not its thread's.
  if (speaks && r.device == "cpu")
    p = trainer::plan_training(r, half != nullptr ? half->measured_costs(r) : trainer::measured_costs(r));
  if (talks && speaks) {
    fmt::print("{}", trainer::describe(r, p));
    if (from.saved) fmt::print("goes on from {}\n", from.saved->folder().string());
  }
  std::fflush(stdout);
  auto const tell = [&](int step, double loss, double tokens_per_second, std::optional<double> held_out) {
    if (!talks) return false;
    bool const tells = step == from.steps() + 1 || step % 10 == 0 || held_out;
    if (tells)
      fmt::print("{}step {:>5}  loss {:.4f}  {:.0f} tokens/s{}\n", fresh_line, step, loss, tokens_per_second,
                 held_out ? fmt::format("  held out {:.4f}, perplexity {:.1f}", *held_out, std::exp(*held_out)) : "");
    else if (!fresh_line.empty())
      fmt::print("{}step {} of {}, loss {:.4f}", fresh_line, step, r.steps, loss);  // until the next line
    std::fflush(stdout);
    return tells;
  };
  auto const o = half != nullptr      ? half->train(*on, r, p, data, tell, from)
                 : on_cuda != nullptr ? on_cuda->train(*on, r, p, data, tell, from)
                                      : trainer::train(*on, r, p, data, tell, from);
  if (!speaks) return;
  std::string const prompt = "the ";
  auto const text = r.sample > 0 ? prompt + trainer::writer(r, data.code, o.weights).go_on(prompt, r.sample) : "";
  if (r.json != "-") fmt::print("\n{}", trainer::summary(p, o));
  if (talks && !text.empty()) fmt::print("\n{}\n", trainer::printable(text));
  if (!r.trace.empty()) {
    auto t = o.timeline;
    t.title = trainer::title_of(r, "measured");
    trainer::write_trace(r.trace, t);
  }
  if (!r.json.empty()) trainer::write_json(r.json, trainer::outcome_json(r, p, o, text));
}

int run(int argc, char** argv) {
  CLI::App app("Trains a GPT-2 through a pipeline whose ranks are threads, or processes.", "train_gpt2");
  app.require_subcommand(0, 1);
  app.footer("Example: train_gpt2 --schedule flush --ranks 4 --micro-batches 8 --steps 100 --data book.txt");
  trainer::request r;
  std::string model = "small", recompute = "never", plan;
  double dropout = 0;
  app.option_defaults()->always_capture_default();
  add_model(app, r, model, dropout);
  add_data(app, r);
  add_training(app, r, recompute);
  app.add_option(
      "--plan", plan,
      "A file that schedule_planner --emit wrote: its schedule, ranks, micro-batches, cut and recomputation");

  trainer::demo_request d;
  d.base.steps = 50;
  d.base.warm_up = 5;
  d.base.pace = 0;
  std::string demo_model = "small";
  double demo_dropout = 0;
  auto* const demo =
      app.add_subcommand("demo", "Train under each schedule in turn and compare losses, bubbles and memory");
  add_model(*demo, d.base, demo_model, demo_dropout);
  demo->add_option("-m,--micro-batches", d.base.micro_batches, "M, micro-batches of a step")
      ->check(CLI::Range(1, 4096));
  demo->add_option("-o,--output", d.folder, "The folder for timelines and figures");

  std::optional<pw::gpt2::saved_training> saved;
  try {
    app.parse(argc, argv);
    if (!plan.empty()) trainer::take_plan(app, plan);
    bool const says_transport = app.count("--transport") > 0;
    if (!demo->parsed()) trainer::take_launcher(app);
    if (!r.resume.empty() && !demo->parsed()) {
      saved.emplace(r.resume);
      trainer::take_settings(app, *saved);
    }
    if (r.backend == "cuda") {
      if (!says_transport) r.transport = r.transport == "in-process" ? "cuda-loopback" : "nccl";
      if (app.count("--device") == 0) r.device = "cuda";
    }
  } catch (CLI::Success const& e) {
    return app.exit(e);
  } catch (CLI::ParseError const& e) {
    throw pw::error(fmt::format("{}; see train_gpt2 --help", e.what()));
  }
  if (demo->parsed()) {
    settle_model(d.base, *demo, demo_model, demo_dropout, {});
    auto const cores = std::max(1u, std::thread::hardware_concurrency());
    if (d.base.pace == 0) d.base.pace = d.base.ranks > static_cast<int>(cores) ? 1.5 * d.base.ranks / cores : 1;
    trainer::advise_on_blas("train_gpt2");
    trainer::run_demo(d);
    return 0;
  }
  settle_model(r, app, model, dropout, saved);
  trainer::parse_balance(r);
  r.settings = trainer::settings_of(app);
  r.recompute = recompute == "always"  ? pw::recompute_mode::always
                : recompute == "never" ? pw::recompute_mode::never
                                       : pw::recompute_mode::except_last;
  if (r.data.ends_with(".bin") && r.tokenizer.empty()) r.sample = 0;  // nobody knows what its tokens say
  train(r, std::move(saved));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return tool::answer("train_gpt2",
                      "there is not enough memory for this training; choose a smaller model or fewer micro-batches",
                      run, argc, argv);
}
