# SPDX-License-Identifier: Apache-2.0
"""Runs the benchmarks one after the other, judges their figures by the goals, and writes the page. Called by tests/benchmarks/run."""
import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import typing

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
QUIET = 0.2  # cores that others may use


class Figure(typing.NamedTuple):
    text: str
    value: float
    unit: str = ""
    goal: float | None = None  # at most
    digits: int = 2

    def met(self):
        return "" if self.goal is None else "yes" if self.value <= self.goal else "NO"

    def row(self, benchmark):
        goal = "" if self.goal is None else f"at most {self.goal:g}{self.unit}"
        return [benchmark, self.text, f"{self.value:.{self.digits}f}{self.unit}", goal, self.met()]


class Peer(typing.NamedTuple):
    """A figure of PyTorch's pipelining runtime: measured earlier on the same kind of machine, not in this run."""
    text: str
    value: float
    theirs: float
    unit: str = ""

    def row(self):
        ratio = self.theirs / self.value
        return [self.text, f"{self.value:.4g}{self.unit}", f"{self.theirs:g}{self.unit}", f"{ratio:.0f}" if ratio >= 100 else f"{ratio:.3g}"]


class Result(typing.NamedTuple):
    rows: list[dict]  # all that was measured
    figures: list[Figure]
    peers: list[Peer] = []
    about: str = ""  # below the rows


def worst(rows, key):
    return max(row[key] for row in rows)


def engine(found):
    rows = [{"schedule": each["run_name"].split("/")[0], "stages": int(re.search(r"stages:(\d+)", each["run_name"])[1]),
             "ns_per_action": round(each["per_action"] * 1e9, 2)}
            for each in found["benchmarks"] if each["aggregate_name"] == "median"]
    micro = {row["schedule"]: row["ns_per_action"] / 1000 for row in rows}
    return Result(rows, [Figure("an action of the engine, the worst schedule", worst(rows, "ns_per_action"), " ns", 50, 1)],
                  [Peer(f"an action on one rank, {name}", micro[schedule], theirs, " us")
                   for name, schedule, theirs in (("GPipe", "gpipe", 73), ("1F1B", "flush", 106))])


def allocations(found):
    rows = [{"schedule": schedule, "allocations_a_step": number} for schedule, number in found.items()]
    return Result(rows, [Figure("allocations a steady-state step, the worst schedule", worst(rows, "allocations_a_step"), "", 0)])


def hop(found):
    return Result([found], [Figure("hop between two pinned threads", found["hop_us"], " us", 2, 3),
                            Figure("the same over a bare spin loop", found["hop_over_spin"]),
                            Figure("the same over bare semaphores", found["hop_over_semaphore"]),
                            Figure("hop where both threads share a core", found["one_core_hop_us"], " us", None, 3)])


def planning(found):
    small, large = found[0], found[-1]
    times = large["actions"] / small["actions"]
    return Result(found, [Figure(f"plan and simulation of {large['actions'] / 1e6:.1f} million actions", large["together_s"], " s", 10),
                          Figure(f"bytes an action there, over those of {times:.0f} times fewer actions",
                                 large["bytes_per_action"] / small["bytes_per_action"], "", 1.1)])


def cutting(found):
    return Result(found, [Figure(f"10,000 layers into 1,024 stages: {row['what']}", row["cut_s"], " s", 1) if "cut_s" in row
                          else Figure(row["what"], row["plan_s"], " s") for row in found])


def step_time(found):
    figures = []
    for forward in sorted({row["forward_s"] for row in found}, reverse=True):
        for latency in sorted({row["latency_s"] for row in found}):
            rows = [row for row in found if row["forward_s"] == forward and row["latency_s"] == latency]
            text = f"F {1e3 * forward:g} ms, B {1e3 * rows[0]['backward_s']:g} ms, link {1e3 * latency:g} ms, the worst schedule"
            figures.append(Figure(f"step over simulated: {text}", worst(rows, "engine_over_simulated"), "", 1.02 if forward == 5e-3 else None, 4))
            figures.append(Figure(f"step over a bare loop: {text}", worst(rows, "engine_over_bare"), "", 1.005, 4))
    without_latency = {row["schedule"]: row["engine_over_simulated"] for row in found if row["forward_s"] == 5e-3 and row["latency_s"] == 0}
    return Result(found, figures, [Peer(f"step over simulated, {name}", without_latency[schedule], theirs)
                                   for name, schedule, theirs in (("GPipe", "gpipe", 1.28), ("1F1B", "flush", 1.19), ("interleaved, V = 2", "interleaved", 1.22))
                                   if schedule in without_latency])


def partition(found):
    figures = []
    for row in found:
        off = abs(row["step_over_foretold"] - 1)
        figures += [Figure(f"planner's cut over equal layers, {row['schedule']}", 1 / row["gain"], "", 1, 3),
                    Figure("the gain, off its prediction", 100 * abs(row["gain"] / row["gain_foretold"] - 1), " %", 3, 1),
                    Figure("a step under the planner's cut, off its prediction", 100 * off, " %", 15, 1)]
    return Result(found, figures)


def tokenizer(found):
    words = [row for row in found if row["goal"]]
    return Result(found, [Figure("encoding, the slowest of " + ", ".join(row["text"] for row in words),
                                 max(1e3 / row["encode_mb_s"] for row in words), " ns a byte", 200, 0)])  # 5 MB/s


def compile_time(found):
    goals = {"schedule and plan headers": 0.4, "umbrella": 0.8, "plan of 8 x 32 x 2": 0.5}
    rows = [{key: value for key, value in row.items() if key not in ("baseline", "version")} for row in found]
    about = "Baselines:\n\n" + "".join(dict.fromkeys(f"* {row['what']}: {row['baseline']}\n" for row in found))
    return Result(rows, [Figure(f"{row['what']}, {row['compiler']}: more than the baseline", row["more_s"], " s", goals.get(row["what"]))
                         for row in found], about=about)


class Benchmark(typing.NamedTuple):
    what: str
    judge: typing.Callable[..., Result]
    arguments: list[str]
    quick: list[str]  # instead
    minutes: str
    is_script: bool = False


BENCHMARKS = {
    "engine": Benchmark("empty stages on one rank, no transfers, no observer; an action is an F or a B", engine,
                        ["--benchmark_format=json"], ["--benchmark_format=json", "--benchmark_filter=^(gpipe|flush)/"], "10 s"),
    "allocations": Benchmark("every operator new of the process over 100 steps of 4 ranks, after 40 steps", allocations, ["--json"], ["--json"], "10 s"),
    "hop": Benchmark("half of the median round trip of a vector", hop, ["--json"], ["--json"], "10 s"),
    "planning": Benchmark("order, lower, slots, verify and simulate at run time; flush, each size in a process of its own", planning,
                          ["--json"], ["--json"], "half a minute"),
    "cutting": Benchmark("cuts of 10,000 layers, and a planner's search on 1,024 devices", cutting, ["--json"], ["--json"], "a minute"),
    "step_time": Benchmark("8 ranks, 32 micro-batches, stages that sleep; asynchronous schedules in their steady state; medians of 3 steps",
                           step_time, ["--json", "--repeats", "3"], ["--json", "--repeats", "1", "--only", "flush"], "7 minutes"),
    "partition": Benchmark("a host GPT-2 of 10 blocks, width 128, vocabulary 8192, on 2 ranks: its profile, and cuts", partition,
                           ["--json"], ["--json", "--repeats", "1", "--only", "flush"], "4 minutes"),
    "tokenizer": Benchmark("GPT-2's byte-pair tokenizer on one core; medians of nine passes over 4 MB, vocabulary of the tests", tokenizer,
                           ["--json"], ["--json"], "20 s"),
    "compile_time": Benchmark("user time, medians of interleaved runs, no optimization, default constexpr limits", compile_time,
                              ["--json"], ["--json", "--repeats", "1"], "3 minutes", is_script=True),
}


def busy_seconds():
    """Core seconds that this machine has worked, guests and interrupts included, since it started."""
    user, nice, system, _, _, irq, softirq, steal = map(int, pathlib.Path("/proc/stat").read_text().split("\n")[0].split()[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    return sum(usage.ru_utime + usage.ru_stime for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)))


def used_by_others(work):
    """What work() returns, and how many cores others used meanwhile."""
    start, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    result = work()
    others = busy_seconds() - busy - (own_seconds() - own)
    return result, max(0.0, others / (time.monotonic() - start))


def wait_for_quiet():
    """Cores that others use now. Waits a minute at most until they are few, e.g. until what was just built is written."""
    for _ in range(12):
        _, cores = used_by_others(lambda: time.sleep(5))
        if cores <= QUIET:
            break
        say(f"waiting: other programs use {cores:.2f} cores")
    return cores


class SharedCore:
    """Looks at whether two processors are two cores, between the runs of a benchmark; see shared_core.cpp."""

    def __init__(self, programs):
        self.program, self.looks = pathlib.Path(programs) / "shared_core", []

    def look(self):
        """Whether they are now."""
        self.looks.append(float(subprocess.run([self.program], capture_output=True, text=True, check=True).stdout))
        return self.looks[-1] >= 0.75

    def facts(self):
        shared = sum(look < 0.75 for look in self.looks)
        return {"a processor beside another, over alone": f"{min(self.looks):.2f} to {max(self.looks):.2f}; two processors "
                f"shared a core in {shared} of {len(self.looks)} looks between the runs"}


def say(text):
    print(text, file=sys.stderr, flush=True)


def measured(command):
    """The JSON that a program prints. A line of it is shown as a dot."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        lines = []
        for line in program.stdout:
            lines.append(line)
            if sys.stderr.isatty():
                print(".", end="", file=sys.stderr, flush=True)
        if sys.stderr.isatty():
            say("")
    if program.returncode != 0:
        raise RuntimeError(f"it ended with exit code {program.returncode}")
    return json.loads("".join(lines))


def first_line(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def processor():
    found = re.search(r"^model name\s*: (.*)$", pathlib.Path("/proc/cpuinfo").read_text(), re.M)
    return found[1].strip() if found else platform.machine()


def machine():
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = first_line("git", "rev-parse", "--short=12", "HEAD")
    if commit and first_line("git", "status", "--porcelain", "--untracked-files=no"):
        commit += ", with uncommitted changes"
    return {"date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"), "processor": processor(),
            "cores": str(len(os.sched_getaffinity(0))), "memory": f"{memory:.1f} GiB",
            "kernel": f"{platform.system()} {re.match('[0-9.]*[0-9]', platform.release())[0]}",
            "system": platform.freedesktop_os_release().get("PRETTY_NAME", ""),
            "compilers": "; ".join(filter(None, (first_line(name, "--version") for name in ("g++", "clang++-19")))),
            "commit": commit or "not a checkout"}


def markdown(header, rows):
    lines = [list(header), ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def plain(header, rows):
    widths = [max(len(str(line[i])) for line in [header, *rows]) for i in range(len(header))]
    return "\n".join("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths)).rstrip() for line in [header, *rows])


SUMMARY = ["benchmark", "figure", "measured", "goal", "met"]
PEERS = ["figure", "pipewright", "PyTorch", "PyTorch over pipewright"]
ABOUT_PEERS = "PyTorch's pipelining runtime: earlier measurement on the same kind of machine, given figures, not measured in this run."


def page_of(facts, quick, notes, results, commands):
    text = f"# Benchmarks, {facts['date'].split()[0]}\n\n"
    text += "".join(f"**{note}**\n\n" for note in notes)
    text += markdown(["machine", ""], [[key, value] for key, value in facts.items()])
    text += f"\nMade by `bash tests/benchmarks/run`{', quick: rough figures' if quick else ''}. Figures are medians; the worst of several is said to be so.\n\n"
    text += "## Goals\n\n" + markdown(SUMMARY, summary_of(results))
    peers = [peer.row() for result in results.values() if result for peer in result.peers]
    if peers:
        text += f"\n## Beside PyTorch\n\n{ABOUT_PEERS}\n\n" + markdown(PEERS, peers)
    for name, result in results.items():
        text += f"\n## {name}\n\n{BENCHMARKS[name].what[0].upper() + BENCHMARKS[name].what[1:]}.\n\n    {commands[name]}\n\n"
        if result:
            text += markdown(result.rows[0].keys(), [row.values() for row in result.rows])
            text += f"\n{result.about}" if result.about else ""
        else:
            text += "It failed.\n"
    return text


def summary_of(results):
    rows = []
    for name, result in results.items():
        rows += [figure.row(name) for figure in result.figures] if result else [[name, "it failed", "", "", "NO"]]
    return rows


def write(path, text):
    """All of a file or nothing of it."""
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as part:
        try:
            part.write(text)
            part.flush()
            os.chmod(part.name, 0o644)
            os.replace(part.name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(part.name)
            raise


def default_page(of=""):
    name = re.sub(r"\((R|TM)\)|@.*|\b(CPU|Processor|\d+-Core)\b", " ", processor())
    short = "-".join(re.findall(r"[a-z0-9]+", name.lower()))
    return HERE / "results" / f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}-{short}{of}.md"


def options_of():
    parser = argparse.ArgumentParser(prog="tests/benchmarks/run", add_help=False)
    parser.add_argument("--page")
    parser.add_argument("--json")
    parser.add_argument("--only", default=",".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--targets", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--programs", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.only = options.only.split(",")
    for name in options.only:
        if name not in BENCHMARKS:
            parser.error(f"there is no benchmark '{name}'; choose of {', '.join(BENCHMARKS)}")
    if options.page is None and not options.quick and set(options.only) == set(BENCHMARKS):
        options.page = default_page()
    return options


def main():
    options = options_of()
    if options.targets:
        print(*(f"benchmark.{name}" for name in [*(name for name in options.only if not BENCHMARKS[name].is_script), "shared_core"]))
        return 0
    facts, notes, disturbed, results, commands = machine(), [], [], {}, {}
    for path in filter(None, (options.page, options.json)):
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=pathlib.Path(path).parent).close()  # better to fail now than after minutes

    def note_others(cores, when):
        facts[f"used by others {when}"] = f"{cores:.2f} cores"
        if cores > QUIET:
            disturbed.append(f"{cores:.2f} cores {when}")
            say(f"!!! other programs used {disturbed[-1]}: figures taken now are not good")

    note_others(wait_for_quiet(), "before the start")
    cores = SharedCore(options.programs)
    cores.look()
    for i, name in enumerate(options.only):
        benchmark = BENCHMARKS[name]
        arguments = benchmark.quick if options.quick else benchmark.arguments
        folder = HERE if benchmark.is_script else pathlib.Path(options.programs)
        commands[name] = " ".join([os.path.relpath(folder / name, ROOT), *arguments])
        say(f"[{i + 1}/{len(options.only)}] {name}" + ("" if options.quick else f", about {benchmark.minutes}"))
        try:
            found, others = used_by_others(lambda: measured([folder / name, *arguments]))
            results[name] = benchmark.judge(found)
        except (OSError, RuntimeError, ValueError, KeyError) as fault:
            results[name] = None
            notes.append(f"{name} failed: {fault}")
            say(f"!!! {notes[-1]}")
            continue
        note_others(others, f"during {name}")
        cores.look()
    facts |= cores.facts()
    if disturbed:
        notes.insert(0, f"THIS WAS NOT A QUIET MACHINE, so the figures are not good. Other programs used {', '.join(disturbed)}.")

    if options.page:
        write(options.page, page_of(facts, options.quick, notes, results, commands))
        say(f"page: {options.page}")
    if options.json:
        write(options.json, json.dumps({
            "machine": facts, "quick": options.quick, "notes": notes,
            "figures": [figure._asdict() | {"benchmark": name, "met": figure.met()} for name, result in results.items() if result for figure in result.figures],
            "beside_pytorch": {"about": ABOUT_PEERS, "figures": [peer._asdict() for result in results.values() if result for peer in result.peers]},
            "measured": {name: result and {"command": commands[name], "rows": result.rows} for name, result in results.items()},
        }, indent=1) + "\n")
        say(f"JSON: {options.json}")
    peers = [peer.row() for result in results.values() if result for peer in result.peers]
    if peers:
        print(f"{plain(PEERS, peers)}\n{ABOUT_PEERS}\n")
    print(plain(SUMMARY, summary_of(results)))
    for text in notes:
        print(f"!!! {text}")
    return 0 if all(results.values()) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, KeyboardInterrupt) as fault:
        say(f"tests/benchmarks/run: {fault or 'interrupted'}")
        sys.exit(1)
