#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# Keeps layers and sizes honest: what includes what, what is called where, how long files and functions are, and what
# must not be in a file that others get. Looks at files that git knows.

import glob
import os
import re
import subprocess
import sys
import urllib.parse

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 80
CPP = (".cc", ".h")

# What a folder of libckpt may include besides itself and the public headers.
LAYERS = {
    "base": set(),
    "io": {"base"},
    "format": {"base"},
    "store": {"base", "io", "format"},
    "stream": {"base", "format", "store"},
}
# What all programs may include besides the public headers; it includes those and itself alone.
SHARED = "os"
# Internal headers that programs may include, each for a reason that holds for all of them: bytes in wire order.
PROGRAMS = ("ckptd", "restore-agent", "libvirt-hooks")
# A folder of another program that one may include from: the files that they share have one codec.
BORROWED = {"libvirt-hooks": ("ckptd", "common/")}
ALLOWED_IN_PROGRAMS = {"base/bytes.h", "format/message_head.h", "format/utf8.h"}

BANNED_ANYWHERE = [
    (r"\bsystem\s*\(\s*[^)\s]", "system() runs a shell"),
    (r"\b(?:strcpy|strcat|sprintf|vsprintf|gets)\s*\(", "it has no bounds"),
    (r"(?<![\w.>])(?:std::)?s?rand\s*\(", "rand() is no source of randomness"),
]
BANNED_IN_LIBRARY = [
    (r"\bstd::(?:cout|cerr|clog)\b|\b(?:f|v|vf)?printf\s*\(|\bputs\s*\(|\bperror\s*\(", "libckpt never logs"),
    (r"(?<![\w.>])(?:u|nano)?sleep\s*\(|\bsleep_(?:for|until)\b", "libckpt never sleeps"),
    (r"(?<!\w)throw\b", "nothing in libckpt throws"),
]
BANNED_ABOVE_IO = [
    (r"(?<![\w>])::(?:open(?:at)?|creat|p?read|p?write|fsync|fdatasync|rename|unlink|mkdir|ftruncate)\s*\(|\bfopen\s*\("
     r"|\bstd::(?:[io]?fstream|filesystem)\b", "I/O goes through ckpt/env.h"),
]
# An invariant that broke is said on stderr before the process ends.
EXEMPT = {"libckpt/base/check.h": "libckpt never logs"}


def tracked_files():
    done = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=False)
    if done.returncode == 0 and done.stdout:
        names = done.stdout.decode().split("\0")
    else:
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, names in os.walk(ROOT) if "/build" not in folder for name in names]
    return sorted(name for name in names if name and os.path.isfile(os.path.join(ROOT, name)))


def read(name):
    with open(os.path.join(ROOT, name), "rb") as file:
        data = file.read()
    return None if b"\0" in data else data.decode("utf-8", "replace")


def blanked(text):
    """The code without comments and literals' contents, each line and column where it was."""
    pattern = r'R"(\w*)\(.*?\)\1"|//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\''
    def blank(match):
        spaces = re.sub(r"[^\n]", " ", match.group())
        return f'"{spaces[2:]}"' if match.group()[0] == '"' else spaces

    return re.sub(pattern, blank, text, flags=re.S)


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def quoted_includes(text):
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s+(["<])([^">]+)[">]', line)
        if match:
            yield number, match.group(1), match.group(2)


def check_library_includes(files):
    for name, text in files.items():
        if not name.startswith("libckpt/"):
            continue
        layer = name.split("/")[1]
        public = layer == "include"
        if not public and layer not in LAYERS:
            yield f"{name}:1: {layer} is no layer of libckpt"
            continue
        for number, kind, target in quoted_includes(text):
            first = target.split("/")[0]
            if first == "ckpt" and os.path.isfile(os.path.join(ROOT, "libckpt/include", target)):
                continue
            if kind == "<" and first not in LAYERS:
                continue
            if public:
                yield f"{name}:{number}: a public header includes {target}, which its users do not have"
            elif first != layer and first not in LAYERS[layer]:
                yield f"{name}:{number}: {layer} may not include {target}"
            elif not os.path.isfile(os.path.join(ROOT, "libckpt", target)):
                yield f"{name}:{number}: {target} is not named from libckpt's own folder"


def check_program_includes(files):
    for name, text in files.items():
        program = name.split("/")[0]
        if program not in (*PROGRAMS, SHARED):
            continue
        for number, kind, target in quoted_includes(text):
            public = os.path.isfile(os.path.join(ROOT, "libckpt/include", target))
            own = target.startswith(SHARED + "/") or any(os.path.isfile(os.path.join(ROOT, folder, target)) for folder in (program, os.path.dirname(name)))
            lender, folder = BORROWED.get(program, ("", "-"))
            own |= target.startswith(folder) and os.path.isfile(os.path.join(ROOT, lender, target))
            internal = os.path.isfile(os.path.join(ROOT, "libckpt", target))
            foreign = kind == '"' and not internal
            allowed = program in PROGRAMS and target in ALLOWED_IN_PROGRAMS
            if not public and not own and (internal or foreign) and not allowed:
                yield f"{name}:{number}: {target} is neither public nor the program's own"


def check_public_headers(files):
    for name in files:
        if name.endswith(".h") and "/ckpt/" in name and not name.startswith("libckpt/include/ckpt/"):
            yield f"{name}:1: public headers live in libckpt/include/ckpt/"


def banned_for(name):
    rules = list(BANNED_ANYWHERE)
    if name.startswith("libckpt/"):
        rules += BANNED_IN_LIBRARY
        if not name.startswith("libckpt/io/"):
            rules += BANNED_ABOVE_IO
    return [rule for rule in rules if EXEMPT.get(name) != rule[1]]


def check_banned_calls(files):
    for name, text in files.items():
        code = blanked(text)
        for pattern, why in banned_for(name):
            for match in re.finditer(pattern, code):
                yield f"{name}:{line_of(code, match.start())}: {match.group().strip()}: {why}"


def check_file_lengths(files):
    for name, text in files.items():
        count = text.count("\n")
        if count > MAX_FILE_LINES:
            yield f"{name}:1: {count} lines, {MAX_FILE_LINES} are allowed: split it by concept"


def kind_of_block(head):
    head = re.sub(r"#[^\n]*", "", head).strip()
    if re.search(r"=\s*$|\breturn\s*$|^\s*,", head):
        return "value"
    if re.match(r"(?:template\s*<.*>\s*)?(?:inline\s+)?(?:namespace|class|struct|union|enum|extern)\b[^()]*$", head, re.S):
        return "scope"
    return "function" if "(" in head else "value"


def functions(code):
    """(first line, last line) of each function body's lines, head included, as far as braces tell."""
    kinds, head_start, begin = [], 0, 0
    for match in re.finditer(r"[{};]", code):
        inside = any(kind != "scope" for kind, _ in kinds)
        if match.group() == "{":
            head = code[head_start:match.start()]
            kind = "inner" if inside else kind_of_block(head)
            begin = head_start + len(head) - len(head.lstrip())
            kinds.append((kind, begin))
        elif match.group() == "}" and kinds:
            kind, begin = kinds.pop()
            if kind == "function":
                yield line_of(code, begin), line_of(code, match.start())
        if not any(kind != "scope" for kind, _ in kinds):
            head_start = match.end()


def check_function_lengths(files):
    for name, text in files.items():
        for first, last in functions(blanked(text)):
            if last - first + 1 > MAX_FUNCTION_LINES:
                yield f"{name}:{first}: a function of {last - first + 1} lines, {MAX_FUNCTION_LINES} are allowed"


def is_source(name, text):
    if name.startswith("qemu-patches/"):
        return False
    known = name.endswith((".cc", ".h", ".c", ".S", ".ld", ".py", ".sh")) or os.path.basename(name) in ("meson.build", "Makefile")
    return known or text.startswith("#!")


def check_spdx(everything):
    tag = "SPDX-License-" + "Identifier: "
    for name, text in everything.items():
        if is_source(name, text) and tag not in "\n".join(text.splitlines()[:4]):
            yield f"{name}:1: no SPDX line"


def own_lines(name, text):
    """Of a patch only what it adds: its context is QEMU's."""
    for number, line in enumerate(text.splitlines(), 1):
        if not name.endswith(".patch") or line.startswith("+"):
            yield number, line


def check_left_overs(everything):
    words = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|X" + "XX)\\b")
    for name, text in everything.items():
        for number, line in own_lines(name, text):
            if words.search(line):
                yield f"{name}:{number}: {line.strip()[:80]}"


def check_named_tests(everything):
    """The faults' table says which test shows what; it must not outlive the test."""
    name = "doc/consistency.md"
    sources = "".join(text for path, text in everything.items() if path.startswith("tests/unit/"))
    cases = {f"{suite}.{case}" for suite, case in re.findall(r"^TEST(?:_F|_P)?\((\w+),\s*(\w+)\)", sources, re.M)}
    suites = {case.split(".")[0] for case in cases}
    for number, line in enumerate(everything.get(name, "").splitlines(), 1):
        # The column that names tests: elsewhere such a word may be anything.
        for case in re.findall(r"`([A-Z]\w+(?:\.[A-Z]\w+)?)`", line.rpartition(" | ")[2]):
            if case not in cases and case not in suites:
                yield f"{name}:{number}: there is no test {case}"
        for path in re.findall(r"`(tests/[^`]+)`", line):
            if path not in everything:
                yield f"{name}:{number}: there is no {path}"


def check_tests_run(everything):
    """What is not executable is no test for tests/run, and nobody would miss it."""
    for name in everything:
        if name.startswith(("tests/functional/", "tests/soak/")) and name.count("/") == 2:
            if not os.access(os.path.join(ROOT, name), os.X_OK):
                yield f"{name}:1: not executable: tests/run passes over it"


def registry_hosts():
    """Where this machine gets its packages; Debian's own names are no secret."""
    sources = glob.glob("/etc/apt/sources.list") + glob.glob("/etc/apt/sources.list.d/*")
    text = "".join(open(path, encoding="utf-8", errors="replace").read() for path in sources if os.path.isfile(path))
    text += " ".join(os.environ.get(name, "") for name in ("PIP_INDEX_URL", "GOPROXY", "http_proxy", "https_proxy"))
    hosts = {urllib.parse.urlsplit(uri).hostname for uri in re.findall(r"https?://[^\s,\"']+", text)}
    public = re.compile(r"(?:.*\.)?(?:debian|golang|pypi)\.org$|localhost$|127\.|::1$")
    return {host for host in hosts if host and not public.match(host)}


def check_private_names(everything):
    paths = re.compile(r"(?<![\w.$})~/-])(?<![\w}]\")/(?:home|Users|ro" + r"ot|wo" + r"rk)/\w")
    hosts = registry_hosts()
    for name, text in everything.items():
        for number, line in own_lines(name, text):
            if paths.search(line):
                yield f"{name}:{number}: a path of one machine: {line.strip()[:80]}"
            for host in hosts:
                if host in line:
                    yield f"{name}:{number}: names the package registry of this machine"


def main():
    everything = {name: text for name in tracked_files() if (text := read(name)) is not None}
    cpp = {name: text for name, text in everything.items()
           if name.endswith(CPP) and not name.startswith(("qemu-patches/", "tests/guests/"))}
    checks = [
        ("libckpt's layers include downward only", check_library_includes(cpp)),
        ("public headers live in one place", check_public_headers(cpp)),
        ("programs include public headers and their own", check_program_includes(cpp)),
        ("no banned calls", check_banned_calls(cpp)),
        (f"no file has more than {MAX_FILE_LINES} lines", check_file_lengths(cpp)),
        (f"no function has more than {MAX_FUNCTION_LINES} lines", check_function_lengths(cpp)),
        ("every source names its licence", check_spdx(everything)),
        ("nothing is left for later", check_left_overs(everything)),
        ("doc/consistency.md names tests that exist", check_named_tests(everything)),
        ("every test is run", check_tests_run(everything)),
        ("nothing names one machine or its registry", check_private_names(everything)),
    ]
    failed = 0
    print(f"1..{len(checks)}")
    for number, (title, found) in enumerate(checks, 1):
        problems = list(found)
        failed += bool(problems)
        print(f"{'not ok' if problems else 'ok'} {number} - {title}")
        for problem in problems:
            print(f"# {problem}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
