#!/usr/bin/env python3
"""mutate.py: plants faults in kernels, one at a time, and expects the tests to stop each one.

The faults stand in tools/mutations.txt. Each is planted alone in a copy of the tree below build/mutate/, which is rebuilt
(one object, as a rule) and run: the harness over the rows that the file has a part in, then the golden tests of those
ops. A failing check, a crash and a hang count as stopped. A race is run under ThreadSanitizer. The copy without a fault
must pass first.

Without --all: the faults marked * (every file and every class of fault among them), which is what `make test` runs.
Failures: a fault that survives or does not compile, one whose text does not occur exactly once in its file, a kernel file
or a class without faults. Ends with "N passed, N failed"."""
import argparse, concurrent.futures, os, queue, re, shutil, subprocess, sys, threading, time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLASSES = ("nan", "tail", "before", "behind", "padding", "scale", "fnuz", "nibble", "page", "carry", "race", "other")
BACKENDS = ("ref", "avx2", "avx512", "amx")  # whose rows run on the machine that builds them


class Fault:
    def __init__(self, file, line, star, large, kind, old, new):
        self.file, self.line, self.star, self.large, self.kind, self.old, self.new = file, line, star, large, kind, old, new

    def pattern(self):
        """The old text however it is broken into lines and spaced."""
        return re.compile(r"\s*".join(re.escape(t) for t in re.findall(r"\w+|\S", self.old)))

    def __str__(self):
        return f"{self.file} {self.kind}: {self.old[:60]} ==> {self.new[:40]}"


def read_table(path):
    """[file] opens a file's faults; then one a line: `*+class: old ==> new`."""
    faults, file = [], None
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        line = line.rstrip("\n")
        if not line.strip() or line.startswith("#"):
            continue
        if line.startswith("["):
            file = line.strip("[] ")
            continue
        m = re.fullmatch(r"(\*?)(\+?)(\w+): (.*?) ==>(?: (.*))?", line)
        if not m or m[3] not in CLASSES or not file:
            sys.exit(f"{path}:{number}: not `class: old ==> new` below a [file], with a class of {', '.join(CLASSES)}")
        faults.append(Fault(file, number, bool(m[1]), bool(m[2]), m[3], m[4], m[5] or ""))
    return faults


def backend_of(path):
    """avx2 of src/gemm/gemm_dot_avx2.c and of src/isa/avx2/num.h; None of a file that is no backend's."""
    m = re.match(r"src/isa/(\w+)/", path) or re.match(r"src/(?!core/)\w+/\w+_([a-z0-9]+)\.[ch]$", path)
    return m[1] if m and m[1] in BACKENDS else None


def kernel_files():
    """Files that must have faults: rows, what rows share, the number formats, and the core's part in caches and angles."""
    found = ["src/core/kv.c", "src/core/rope.c"]
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            if path.startswith("src/core/num/") or backend_of(path):
                found.append(path)
    return sorted(found)


def lint(table):
    """What is wrong with the table itself, whatever part of it is run."""
    wrong = []
    for file in kernel_files():
        mine = [f for f in table if f.file == file]
        if not any(f.star for f in mine):
            wrong.append(f"{file}: no fault{' marked *' if mine else ''}")
    for kind in CLASSES[:-1]:
        if not any(f.kind == kind and f.star for f in table):
            wrong.append(f"no fault of class {kind} is marked *")
    for f in table:
        path = os.path.join(ROOT, f.file)
        n = len(f.pattern().findall(open(path, encoding="utf-8").read())) if os.path.exists(path) else 0
        if n != 1:
            wrong.append(f"line {f.line}: the text occurs {n} times in {f.file}, it must once: {f.old}")
    return wrong


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
        for top in os.listdir(ROOT):
            if top.startswith((".", "build")):
                continue
            source, copy = os.path.join(ROOT, top), os.path.join(self.path, top)
            files = [(source, copy)] if os.path.isfile(source) else [
                (os.path.join(d, n), os.path.join(copy, os.path.relpath(os.path.join(d, n), source)))
                for d, _, names in os.walk(source) for n in names if not n.endswith((".pyc", ".png"))]
            for a, b in files:
                data = open(a, "rb").read()
                if top == "CMakeLists.txt":  # a compiler's warning must not do the tests' work; and quick builds
                    data = data.replace(b" -Werror", b"").replace(b'"-O3 -g1"', b'"-O1"')
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
                 "-DOCTAVO_OPENMP=OFF", "-DOCTAVO_CUDA=OFF", *flags], 300, need=True)
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


def steps(fault, tsan):
    """What may stop a fault, cheapest first: (target of the build, command in the build folder)."""
    ops = ops_of(fault.file)
    size = [] if fault.large else ["--quick"]
    # Kernel randomisation beyond what ThreadSanitizer expects makes it refuse to start.
    fixed = ["setarch", "-R"] if tsan and shutil.which("setarch") else []
    found = [("check", [*fixed, "./check", *size, "--seed", "1", "--filter", f"oct_{op}_"]) for op in ops]
    if not tsan:
        found += [(name, ["./" + name, "../tests/golden"]) for name, text in goldens().items()
                  if any(re.search(rf"\boct_{op}(_|\b)", text) for op in ops)]
        if {"quant", "dequant"} & set(ops):
            found.append(("test_exhaustive", ["./test_exhaustive"]))
        if re.match(r"src/core/[a-z]+\.c$|src/(\w+)/\1\.c$", fault.file):  # what refuses bad arguments
            found.append(("test_api", ["./test_api"]))
    return found


def reason(status, out):
    lines = [l.strip() for l in out.splitlines() if l.strip()]
    for pattern in (r"WARNING: ThreadSanitizer.*", r".*\bFAIL\b.*"):
        for l in lines:
            if re.fullmatch(pattern, l):
                return l[:110]
    return "a hang" if status is None else (f"status {status}" + (f", {lines[-1][:90]}" if lines else ""))


def plant(tree, fault, limits):
    path = os.path.join(tree.path, fault.file)
    text = open(path, encoding="utf-8").read()  # of the copy: the tree may be worked on meanwhile
    found = fault.pattern().search(text)
    tsan = fault.kind == "race"
    open(path, "w", encoding="utf-8").write(text[: found.start()] + fault.new + text[found.end() :])
    try:
        built = None
        for target, command in steps(fault, tsan):
            if target != built:
                status, out = tree.build(tsan, [target])
                if status != 0:
                    errors = re.findall(r"error: .*", out)
                    return False, "does not compile, so it proves nothing: " + (errors or [out[-200:]])[0]
                built = target
            status, out = run(command, limits[(tsan, *command)], cwd=tree.configure(tsan))
            if status != 0:
                return True, f"{os.path.basename(target)}: {reason(status, out)}"
        return False, "SURVIVED"
    finally:
        open(path, "w", encoding="utf-8").write(text)


def baseline(trees, faults):
    """The copies without a fault must pass all that will be run, in both builds. Returns time limits for the runs, and the
    backends whose rows this machine's processor skips."""
    limits, skipped, idle = {}, set(), queue.Queue()
    wanted = dict.fromkeys((f.kind == "race", target, tuple(command)) for f in faults for target, command in steps(f, f.kind == "race"))

    def build(tree):
        for tsan in (False, True):
            targets = sorted({target for t, target, _ in wanted if t == tsan})
            status, out = tree.build(tsan, targets) if targets else (0, "")
            if status != 0:
                return "does not build", out
        idle.put(tree)
        return None

    def measure(step):
        tsan, _, command = step
        tree, start = idle.get(), time.time()
        status, out = run(list(command), 900, cwd=tree.configure(tsan))
        idle.put(tree)
        if status != 0:
            return f"fails: {' '.join(command)}", out
        limits[(tsan, *command)] = 20 + 10 * (time.time() - start)
        skipped.update(set(re.findall(r"^oct_\w+_(\w+) +SKIP", out, re.M)) & set(BACKENDS))
        return None

    with concurrent.futures.ThreadPoolExecutor(len(trees)) as pool:
        for todo, what in ((build, trees), (measure, wanted)):
            for wrong in filter(None, pool.map(todo, what)):
                sys.exit(f"mutate: the tree itself {wrong[0]}\n{wrong[1][-3000:]}")
    return limits, skipped


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--all", action="store_true", help="every fault, not only those marked *")
    ap.add_argument("--only", metavar="TEXT", help="faults, marked or not, whose `file class: old ==> new` holds TEXT")
    ap.add_argument("--jobs", type=int, default=min(2, os.cpu_count() or 1))
    ap.add_argument("--dir", default=os.path.join(ROOT, "build", "mutate"))
    ap.add_argument("--table", default=os.path.join(ROOT, "tools", "mutations.txt"))
    o = ap.parse_args()
    table, passed, start = read_table(o.table), 0, time.time()
    wrong = lint(table)
    for what in wrong:
        print("FAIL " + what)
    if wrong and not o.only:
        print(f"0 passed, {len(wrong)} failed")
        return 1
    faults = [f for f in table if (o.all or o.only or f.star) and (not o.only or o.only in f"{f.file} {f.kind}: {f.old} ==> {f.new}")]
    faults = [f for f in faults if not any(f"line {f.line}:" in what for what in wrong)]
    failed = len(wrong)
    trees = [Tree(os.path.join(o.dir, str(i))) for i in range(max(1, min(o.jobs, len(faults))))]
    limits, skipped = baseline(trees, faults)
    for backend in sorted(skipped):
        print(f"{sum(backend_of(f.file) == backend for f in faults)} faults of {backend} are left out: this CPU lacks it")
    faults = [f for f in faults if backend_of(f.file) not in skipped]
    # Neighbours share a file, so that one worker's next fault rebuilds one object; workers take files in turn.
    todo = queue.Queue()
    groups = {}
    for f in faults:
        groups.setdefault((f.kind == "race", f.file), []).append(f)
    for key in sorted(groups):
        todo.put(groups[key])
    lock, done = threading.Lock(), [0]

    def work(tree):
        nonlocal failed, passed
        while True:
            try:
                group = todo.get_nowait()
            except queue.Empty:
                return
            for f in group:
                began = time.time()
                stopped, how = plant(tree, f, limits)
                with lock:
                    done[0] += 1
                    passed += stopped
                    failed += not stopped
                    print(f"[{done[0]}/{len(faults)}] {'stopped' if stopped else 'FAIL'} in {time.time() - began:.0f} s: {f}\n      "
                          + (f"by {how}" if stopped else how), flush=True)

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
