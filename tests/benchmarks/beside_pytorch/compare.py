# SPDX-License-Identifier: Apache-2.0
"""Runs both sides in turn, makes sure that they did the same work, and writes the page. Called by tests/benchmarks/beside_pytorch/run."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
import report  # noqa: E402

SCHEDULES = {"gpipe": "GPipe", "flush": "1F1B", "interleaved": "interleaved, V = 2"}
SIZES = {"small": {"layers": 8, "width": 128, "heads": 4, "length": 32, "vocabulary": 256, "micro-batches": 16, "sequences": 2},
         "large": {"layers": 8, "width": 512, "heads": 8, "length": 256, "vocabulary": 8192, "micro-batches": 8, "sequences": 1}}
GOALS = {"small": 1.3, "large": 1.0}  # PyTorch's step time over ours, at least
STEPS = {"small": (30, 10), "large": (3, 1)}  # of a run, and how many of them, at its start, are not counted
ROUNDS = {"small": 9, "large": 5, "empty": 15}
AGREE = 1e-4  # of losses, relative
MICRO_BATCHES_EMPTY, STEPS_EMPTY = 16, 40


def ranks(command):
    """What the ranks that a command starts print, a line of JSON each, by rank."""
    done = subprocess.run([str(each) for each in command], stdout=subprocess.PIPE, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", "OMPI_ALLOW_RUN_AS_ROOT": "1",
                                            "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"})
    if done.returncode != 0:
        raise RuntimeError(f"{pathlib.Path(command[0]).name} ended with exit code {done.returncode}: {done.stdout.strip()}")
    return sorted((json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")), key=lambda rank: rank["rank"])


def named(values):
    return [word for name, value in values.items() for word in ("--" + name, str(value))]


class Run:
    """One training: the step times that count, of the slower rank; losses; memory in MiB."""

    def __init__(self, command, skip):
        found = ranks(command)
        self.seconds = [max(each) for each in zip(*(rank["seconds"] for rank in found))][skip:]
        self.losses = found[-1]["losses"]
        self.peak = max(rank["peak_kib"] for rank in found) / 1024
        self.model = max(rank["peak_kib"] - rank["empty_kib"] for rank in found) / 1024


def training(options, cores, size, rounds, steps, skip):
    """Rows by schedule. Throws where the losses differ."""
    how = named(SIZES[size] | {"steps": steps})
    program = options.build / "tests/benchmarks/gpt2_over_gloo"
    start = [options.build / "bin/pipewright-run", "-n", "2"]
    runs = {schedule: [] for schedule in SCHEDULES}
    on_cores = {schedule: [] for schedule in SCHEDULES}  # by round: whether there were two before and after it
    had_cores = cores.look()
    with tempfile.TemporaryDirectory() as folder:
        ranks([program, "--write", folder, *how])
        for i in range(rounds):
            for schedule in SCHEDULES:
                report.say(f"{size}, {SCHEDULES[schedule]}, round {i + 1} of {rounds}")
                sides = {"ours": [*start, program, "--schedule", schedule, *how],
                         "theirs": [*start, options.python, HERE / "gpt2.py", "--from", folder, "--schedule", schedule, *how]}
                pair = {side: Run(sides[side], skip) for side in (sides if i % 2 == 0 else reversed(sides))}
                runs[schedule].append((pair["ours"], pair["theirs"]))
                has_cores = cores.look()
                on_cores[schedule].append(had_cores and has_cores)
                had_cores = has_cores
    rows = []
    for schedule, pairs in runs.items():
        apart = max(abs(a - b) / abs(b) for ours, theirs in pairs for a, b in zip(ours.losses, theirs.losses, strict=True))
        if not pairs[0][0].losses or not apart <= AGREE:
            raise RuntimeError(f"{size}, {SCHEDULES[schedule]}: the losses differ by {apart:.1e}, so this was not the same work")
        ours, theirs = ([run for pair in pairs for run in (pair[side],)] for side in (0, 1))
        time = [statistics.median(s for run in side for s in run.seconds) for side in (ours, theirs)]
        each = [statistics.median(b.seconds) / statistics.median(a.seconds) for a, b in pairs]
        undisturbed = [ratio for ratio, fine in zip(each, on_cores[schedule], strict=True) if fine]
        rows.append({"size": size, "schedule": SCHEDULES[schedule], "rounds": len(each), "rounds_on_cores": len(undisturbed),
                     "ratio_on_cores": statistics.median(undisturbed) if undisturbed else None, "ours_ms": 1e3 * time[0], "theirs_ms": 1e3 * time[1],
                     "ratio": statistics.median(each), "ratio_least": min(each), "ratio_most": max(each), "goal": GOALS[size],
                     "ours_peak": max(run.peak for run in ours), "theirs_peak": max(run.peak for run in theirs),
                     "ours_model": max(run.model for run in ours), "theirs_model": max(run.model for run in theirs),
                     "losses_apart": apart, "loss_first": ours[0].losses[0], "loss_last": ours[0].losses[-1]})
    return rows


def empty(options, rounds, steps):
    start = [options.build / "bin/pipewright-run", "-n", "2"]
    programs = options.build / "tests/benchmarks"
    rows = []
    for schedule in SCHEDULES:
        report.say(f"empty stages, {SCHEDULES[schedule]}")
        how = named({"schedule": schedule, "micro-batches": MICRO_BATCHES_EMPTY, "steps": steps})
        sides = {"theirs": [*start, options.python, HERE / "empty.py", *how],
                 "torch": [*start, programs / "empty_over_gloo", "--stages", "torch", *how],
                 "gloo": [*start, programs / "empty_over_gloo", "--stages", "nothing", *how],
                 "mpi": ["mpirun", "-np", "2", programs / "empty_over_mpi", *how]}
        taken = {side: [] for side in sides}
        for _ in range(rounds):
            for side, command in sides.items():
                rank = ranks(command)[0]
                taken[side].append(1e6 * statistics.median(rank["seconds"][steps // 4:]) / rank["actions"])
        rows.append({"schedule": SCHEDULES[schedule], "runs": taken} | {side: statistics.median(times) for side, times in taken.items()})
    return rows


def overlap(options, repeats):
    """What of a large transfer is left to wait for after work: of the receiver, in turn with the bare library."""
    programs, rows = options.build / "tests/benchmarks", []
    for name, start in ("Gloo", [options.build / "bin/pipewright-run", "-n", "2", programs / "overlap_over_gloo"]), \
                       ("MPI", ["mpirun", "-np", "2", programs / "overlap_over_mpi"]):
        report.say(f"a large transfer under work, {name}")
        receiver = ranks([*start, "--repeats", repeats])[1]
        rows.append({"over": name} | {side: 1e3 * statistics.median(receiver[side]) for side in ("ours", "bare")})
    return rows


def verdict(value, goal):
    return "yes" if value >= goal else "NO"


def tables(trained, actions, overlapped):
    """(title, header, rows) each."""
    yield ("Step time, median", ["stages", "schedule", "pipewright", "PyTorch", "PyTorch over pipewright", "of the rounds", "of those with two cores before and after", "goal", "met"],
           [[row["size"], row["schedule"], f"{row['ours_ms']:.1f} ms", f"{row['theirs_ms']:.1f} ms", f"{row['ratio']:.2f}",
             f"{row['ratio_least']:.2f} to {row['ratio_most']:.2f}",
             (f"{row['ratio_on_cores']:.2f}" if row["rounds_on_cores"] else "none") + f" ({row['rounds_on_cores']} of {row['rounds']})", f"at least {row['goal']:g}", verdict(row["ratio"], row["goal"])] for row in trained])
    yield ("Most memory of a rank", ["stages", "schedule", "pipewright", "PyTorch", "goal", "met", "pipewright, without what it had before the model", "PyTorch, without"],
           [[row["size"], row["schedule"], f"{row['ours_peak']:.0f} MiB", f"{row['theirs_peak']:.0f} MiB", "at most PyTorch's",
             verdict(row["theirs_peak"], row["ours_peak"]), f"{row['ours_model']:.0f} MiB", f"{row['theirs_model']:.0f} MiB"] for row in trained])
    yield ("Losses", ["stages", "schedule", "first step", "last step", "farthest apart, relative", "at most"],
           [[row["size"], row["schedule"], f"{row['loss_first']:.5f}", f"{row['loss_last']:.5f}", f"{row['losses_apart']:.1e}", f"{AGREE:g}"] for row in trained])
    rows = []
    for row in actions:
        for side, text, goal in (("gloo", "pipewright over Gloo, stages of nothing", 5), ("torch", "pipewright over Gloo, the same torch modules", 5),
                                 ("mpi", "pipewright over MPI, stages of nothing", 100)):
            ratio = row["theirs"] / row[side]
            ours, theirs = (f"{row[each]:.4g} us ({min(row['runs'][each]):.3g} to {max(row['runs'][each]):.3g})" for each in (side, "theirs"))
            rows.append([row["schedule"], text, ours, theirs, f"{ratio:.3g}",
                         f"at least {goal}" if goal else "", verdict(ratio, goal) if goal else ""])
    yield ("An action (an F or a B) of empty stages: step time over the actions of a rank, median of the runs' medians (of the quickest and the slowest run)",
           ["schedule", "", "takes", "PyTorch over Gloo", "PyTorch over pipewright", "goal", "met"], rows)
    yield ("64 MB to a rank that works for 100 ms meanwhile: what is left to wait for, median", ["over", "pipewright", "the library alone"],
           [[row["over"], f"{row['ours']:.2f} ms", f"{row['bare']:.2f} ms"] for row in overlapped])


def main():
    parser = argparse.ArgumentParser(prog="tests/benchmarks/beside_pytorch/run", add_help=False)
    parser.add_argument("--page")
    parser.add_argument("--json")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--build", type=pathlib.Path, help=argparse.SUPPRESS)
    parser.add_argument("--python", type=pathlib.Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.check:  # that it is called as it should be, before anything is installed
        return 0
    if options.page is None and not options.quick:
        options.page = report.default_page("-beside-pytorch")

    facts = report.machine()
    facts["PyTorch"] = report.first_line(options.python, "-c", "import torch; print(torch.__version__)") + ", its libraries for both"
    before = report.wait_for_quiet()
    steps = {size: (3, 1) if options.quick else STEPS[size] for size in SIZES}
    rounds = {what: 1 if options.quick else number for what, number in ROUNDS.items()}
    cores = report.SharedCore(options.build / "tests/benchmarks")
    (trained, actions, overlapped), during = report.used_by_others(lambda: (
        [row for size in SIZES for row in training(options, cores, size, rounds[size], *steps[size])], empty(options, rounds["empty"], STEPS_EMPTY),
        overlap(options, 3 if options.quick else 9)))

    notes = []
    for when, used in ("before the start", before), ("during the runs", during):
        facts[f"used by others {when}"] = f"{used:.2f} cores"
        if used > report.QUIET:
            notes.append(f"THIS WAS NOT A QUIET MACHINE, so the figures are not good. Other programs used {used:.2f} cores {when}.")
    facts |= cores.facts()
    found = list(tables(trained, actions, overlapped))
    if options.page:
        sizes = ", ".join(f"{size}: " + " ".join(named(of)) for size, of in SIZES.items())
        text = f"# Beside PyTorch, {facts['date'].split()[0]}\n\n" + "".join(f"**{note}**\n\n" for note in notes)
        text += report.markdown(["machine", ""], [[key, value] for key, value in facts.items()])
        text += (f"\nMade by `bash tests/benchmarks/beside_pytorch/run`{', quick: rough figures' if options.quick else ''}: the same GPT-2 (weights, tokens, "
                 f"float, operators of one LibTorch, Adam; pipewright's modules add up a weight's gradients in the product, and split and join heads in one node of the graph each) on two processes of one thread each, over Gloo, with pipewright and with "
                 f"torch.distributed.pipelining, in turn. {sizes}. Ratios are medians of those of the rounds.\n")
        for title, header, rows in found:
            text += f"\n## {title}\n\n" + report.markdown(header, rows)
        report.write(options.page, text)
        report.say(f"page: {options.page}")
    if options.json:
        report.write(options.json, json.dumps({"machine": facts, "quick": options.quick, "notes": notes, "training": trained, "actions": actions, "overlap": overlapped}, indent=1) + "\n")
        report.say(f"JSON: {options.json}")
    for title, header, rows in found:
        print(f"{title}\n{report.plain(header, rows)}\n")
    for note in notes:
        print(f"!!! {note}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, RuntimeError, KeyboardInterrupt) as fault:
        report.say(f"tests/benchmarks/beside_pytorch/run: {fault or 'interrupted'}")
        sys.exit(1)
