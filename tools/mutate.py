#!/usr/bin/env python3
"""mutate.py [--all] [--only TEXT] [--jobs N] [--keep]: plants faults in kernels and expects the tests to stop each one.

The faults stand in tools/mutations.txt. Each is planted alone in a copy of the tree below build/mutate/, which is rebuilt
(one object, as a rule) and run: the harness over the rows that the file has a part in, then the golden tests of those
ops. A failing check, a crash, a hang and a refused build all count as stopped. A race is run under ThreadSanitizer.

Without --all: the faults marked * (every file and every class of fault among them), a short run.
Failures: a fault that survives, a fault whose text no longer occurs exactly once in its file, a kernel file without
faults. Ends with "N passed, N failed"."""
import argparse, os, queue, re, shutil, subprocess, sys, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = os.path.join(ROOT, "tools", "mutations.txt")
CLASSES = ("nan", "tail", "before", "behind", "padding", "scale", "fnuz", "nibble", "page", "carry", "race", "other")
COPIED = ("CMakeLists.txt", "bench", "cmake", "examples", "include", "src", "tests")


class Fault:
    def __init__(self, file, line, star, kind, old, new):
        self.file, self.line, self.star, self.kind, self.old, self.new = file, line, star, kind, old, new

    def __str__(self):
        return f"{self.file} {self.kind}: {self.old.strip().splitlines()[0][:60]}"


def read_table():
    """[file] opens a file's faults; then one a line: `*class: old ==> new`. \\n in a text is a line's end."""
    faults, file = [], None
    for number, line in enumerate(open(TABLE, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            file = line.strip("[] ")
            continue
        m = re.fullmatch(r"(\*?)(\w+): (.*?) ==>(?: (.*))?", line)
        if not m or m[2] not in CLASSES:
            sys.exit(f"mutations.txt:{number}: not `class: old ==> new` with a class of {', '.join(CLASSES)}")
        faults.append(Fault(file, number, bool(m[1]), m[2], m[3].replace("\\n", "\n"), (m[4] or "").replace("\\n", "\n")))
    return faults


def kernel_files():
    """Files that must have faults: rows, what rows share, and the number formats."""
    found = []
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            if re.search(r"_(ref|avx2|avx512|amx)\.c$", name) or re.match(r"src/(isa/|core/num/)", path):
                found.append(path)
    return sorted(found)


def ops_of(file):
    """Ops whose rows a file has a part in: its own, or those that include it, over any number of steps."""
    m = re.match(r"src/(?!core/|isa/)(\w+)/", file)
    if m:
        return [m[1]]
    ops, seen, todo = set(), set(), [file]
    sources = {}
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            sources[path] = re.findall(r'#include "([^"]+)"', open(os.path.join(ROOT, path), encoding="utf-8").read())
    while todo:
        name = todo.pop()
        seen.add(name)
        for path, includes in sources.items():
            if name[len("src/"):] not in includes and os.path.basename(name) not in includes or path in seen:
                continue
            m = re.match(r"src/(?!core/|isa/)(\w+)/", path)
            if m:
                ops.add(m[1])
            else:
                todo.append(path)
    return sorted(ops) or all_ops()


def all_ops():
    return re.findall(r"^O\((\w+),", open(os.path.join(ROOT, "src/ops.def"), encoding="utf-8").read(), re.M)


class Tree:
    """A copy of the tree with two builds: plain, and under ThreadSanitizer."""

    def __init__(self, path):
        self.path = path
        self.sync()

    def sync(self):
        for top in COPIED:
            source, copy = os.path.join(ROOT, top), os.path.join(self.path, top)
            files = [(source, copy)] if os.path.isfile(source) else [
                (os.path.join(d, n), os.path.join(copy, os.path.relpath(os.path.join(d, n), source)))
                for d, _, names in os.walk(source) for n in names if not n.endswith((".pyc", ".png"))]
            for a, b in files:
                data = open(a, "rb").read()
                if top == "CMakeLists.txt":  # a compiler's warning must not do the tests' work
                    data = data.replace(b" -Werror", b"")
                if not os.path.exists(b) or open(b, "rb").read() != data:
                    os.makedirs(os.path.dirname(b), exist_ok=True)
                    open(b, "wb").write(data)
                    shutil.copymode(a, b)
            wanted = {b for _, b in files}
            if os.path.isdir(copy):
                for d, _, names in os.walk(copy):
                    for n in names:
                        if os.path.join(d, n) not in wanted:
                            os.remove(os.path.join(d, n))

    def configure(self, tsan):
        build = os.path.join(self.path, "tsan" if tsan else "plain")
        if not os.path.exists(os.path.join(build, "build.ninja")):
            flags = ["-DOCTAVO_SANITIZE=thread"] if tsan else []
            run(["cmake", "-G", "Ninja", "-S", self.path, "-B", build, "-DCMAKE_BUILD_TYPE=Release", "-DOCTAVO_CLI=OFF",
                 "-DOCTAVO_OPENMP=OFF", "-DCMAKE_C_FLAGS_RELEASE=-O1", *flags], 300, need=True)
        return build

    def build(self, tsan, targets):
        build = self.configure(tsan)
        return run(["cmake", "--build", build, "-j", "1", "--target", *targets], 600)


def run(command, limit, need=False, cwd=None):
    """(status, output); status None for a hang."""
    env = dict(os.environ, TSAN_OPTIONS="halt_on_error=1", OMP_NUM_THREADS="2")
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=cwd,
                         start_new_session=True)
    try:
        out, _ = p.communicate(timeout=limit)
        status = p.returncode
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, 9)
        out, _ = p.communicate()
        status = None
    out = out.decode("utf-8", "replace")
    if need and status != 0:
        sys.exit(f"mutate: {' '.join(command)}\n{out}")
    return status, out


def goldens():
    """Golden tests and the ops that each covers: target name -> source text."""
    found = {}
    for name in sorted(os.listdir(os.path.join(ROOT, "tests"))):
        if name.startswith("golden_") and name.endswith(".c"):
            text = open(os.path.join(ROOT, "tests", name), encoding="utf-8").read()
            if "int main" in text:
                found[name[:-2]] = text
    return found


def steps(fault, ops, tsan):
    """The commands that may stop a fault, cheapest first; run in the build folder."""
    commands = [["./check", "--quick", "--seed", "1", "--filter", f"oct_{op}_"] for op in ops]
    if not tsan:
        commands += [["./" + name, os.path.join(ROOT, "tests", "golden")] for name, text in goldens().items()
                     if any(re.search(rf"\boct_{op}\b|\boct_{op}_", text) for op in ops) or fault.file.startswith("src/core/")]
    return commands


def reason(status, out):
    lines = [l.strip() for l in out.splitlines() if l.strip()]
    for pattern in (r"WARNING: ThreadSanitizer.*", r".*\bFAIL\b.*", r".*error: .*"):
        for l in lines:
            if re.fullmatch(pattern, l):
                return l[:110]
    return "a hang" if status is None else (f"status {status}" + (f", {lines[-1][:90]}" if lines else ""))


def plant(tree, fault, limits):
    path = os.path.join(tree.path, fault.file)
    text = open(os.path.join(ROOT, fault.file), encoding="utf-8").read()
    n = text.count(fault.old)
    if n != 1:
        return False, f"the text occurs {n} times in {fault.file} (mutations.txt:{fault.line}); it must once"
    tsan = fault.kind == "race"
    targets = ["check"] if tsan else ["check", *goldens()]
    open(path, "w", encoding="utf-8").write(text.replace(fault.old, fault.new))
    try:
        status, out = tree.build(tsan, targets)
        if status != 0:
            return True, "the build: " + reason(status, out)
        build = tree.configure(tsan)
        for command in steps(fault, ops_of(fault.file), tsan):
            status, out = run(command, limits.get((tsan, command[-1]), 120), cwd=build)
            if status != 0:
                return True, f"{os.path.basename(command[0])}: {reason(status, out)}"
        return False, "SURVIVED"
    finally:
        open(path, "w", encoding="utf-8").write(text)


def baseline(tree, faults):
    """The tree as it is must pass, in both builds; returns time limits for the runs."""
    limits = {}
    for tsan in (False, True):
        mine = [f for f in faults if (f.kind == "race") == tsan]
        if not mine:
            continue
        status, out = tree.build(tsan, ["check"] if tsan else ["check", *goldens()])
        if status != 0:
            sys.exit("mutate: the tree itself does not build\n" + out[-3000:])
        for command in {tuple(c) for f in mine for c in steps(f, ops_of(f.file), tsan)}:
            start = time.time()
            status, out = run(list(command), 600, cwd=tree.configure(tsan))
            if status != 0:
                sys.exit(f"mutate: the tree itself fails: {' '.join(command)}\n{out[-3000:]}")
            limits[(tsan, command[-1])] = 20 + 10 * (time.time() - start)
    return limits


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--all", action="store_true", help="every fault, not only those marked *")
    ap.add_argument("--only", metavar="TEXT", help="faults whose file or class holds TEXT")
    ap.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    ap.add_argument("--dir", default=os.path.join(ROOT, "build", "mutate"))
    o = ap.parse_args()
    table, failed, passed, start = read_table(), 0, 0, time.time()
    for file in kernel_files():
        for what, have in (("no fault", any(f.file == file for f in table)), ("no fault marked *", any(f.file == file and f.star for f in table))):
            if not have and not o.only:
                print(f"FAIL {file}: {what} in tools/mutations.txt")
                failed += 1
    if not o.only:
        for kind in CLASSES[:-1]:
            if not any(f.kind == kind and f.star for f in table):
                print(f"FAIL no fault of class {kind} is marked *")
                failed += 1
    faults = [f for f in table if (o.all or o.only or f.star) and (not o.only or o.only in f"{f.file} {f.kind}")]
    faults.sort(key=lambda f: (f.kind == "race", f.file))
    trees = [Tree(os.path.join(o.dir, str(i))) for i in range(o.jobs)]
    limits = baseline(trees[0], faults)
    # Neighbours share a file, so that one worker's next fault rebuilds one object; workers take files in turn.
    todo = queue.Queue()
    for key in dict.fromkeys((f.file, f.kind == "race") for f in faults):
        todo.put([f for f in faults if (f.file, f.kind == "race") == key])
    lock, done = threading.Lock(), [0]

    def work(tree):
        nonlocal failed, passed
        while True:
            try:
                group = todo.get_nowait()
            except queue.Empty:
                return
            for f in group:
                stopped, how = plant(tree, f, limits)
                with lock:
                    done[0] += 1
                    passed += stopped
                    failed += not stopped
                    print(f"[{done[0]}/{len(faults)}] {'stopped' if stopped else 'FAIL'}  {f}\n      by {how}" if stopped else
                          f"[{done[0]}/{len(faults)}] FAIL  {f}\n      {how}", flush=True)

    workers = [threading.Thread(target=work, args=(t,)) for t in trees]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    print(f"{len(faults)} faults in {time.time() - start:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
