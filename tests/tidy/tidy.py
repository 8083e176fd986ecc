#!/usr/bin/env python3
"""The rules of this house that a program can read.

Each rule is a function of the tree that yields `file:line: rule: what to do`. Python's own library
is enough for it, so that it runs anywhere.

usage: tidy.py [--root DIR]
"""

import argparse
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

# A third-party header has one home each; daemon/README.md says why.
HOMES = {
    "uv.h": ["daemon/loop"],
    "sqlite3.h": ["daemon/store", "server"],
    "microhttpd.h": ["daemon/admin", "server"],
    "curl/": ["daemon/forward", "daemon/salvage", "ctl"],
    "grpcpp/": ["daemon/gateway", "daemon/forward/grpc_channel.cc", "client/grpc"],
    "systemd/": ["daemon/forward"],
    "spdlog/": ["daemon/base"],
    "toml++/": ["daemon/config"],
    "toml.hpp": ["daemon/config"],
    "CLI/": ["ctl", "server", "daemon/app", "daemon/forward", "daemon/salvage"],
}
# Tests may look behind a module with the library that the module uses.
HOMES_FREE_FOR = ("tests/",)

# hard limits: lines a file may have
BUDGETS = (("tests/", ".cc", 700), ("tests/", ".h", 700), ("", ".h", 250), ("", ".hpp", 250), ("", ".cc", 500))

# path: why it may be longer. An entry whose file fits again, or is gone, is an error.
LONG_FILES: dict[str, str] = {
    "daemon/store/sqlite_store.h": "one class over a dozen sources, declared once",
    "daemon/store/store.h": "the store's whole contract on one page, mostly comment",
}

README_HEADINGS = ("**In / out**", "**Owns**", "**Thread**", "**Promises**", "**Not here**")

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^">]+)[">]')
MODULE = re.compile(r"telemetryd_module\(\s*([\w-]+)(.*?)\)", re.S)
PROGRAM = re.compile(r"telemetryd_(?:program|test)\(\s*([\w-]+)(.*?)\)", re.S)
LOG_EVENT = re.compile(r'\blog::(?:debug|info|warn|error)\(\s*"([^"]*)"')
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
LEFTOVER = re.compile(r"\b(TODO|FIXME|XXX)\b")


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str
    message: str

    def __str__(self):
        return f"{self.path}:{self.line}: {self.rule}: {self.message}"


class Tree:
    """The files under version control (and new ones that are not ignored), with their text."""

    def __init__(self, root, paths=None):
        self.root = Path(root)
        self.paths = sorted(paths if paths is not None else self._from_git())
        self._text = {}

    def _from_git(self):
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=False)
        if listed.returncode == 0:
            return [path for path in listed.stdout.splitlines() if (self.root / path).is_file()]
        # A released archive has no history: everything but hidden and built things is ours.
        found = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return [str(path) for path in found
                if not any(part.startswith((".", "build")) for part in path.parts[:-1])]

    def text(self, path):
        if path not in self._text:
            self._text[path] = (self.root / path).read_text(encoding="utf-8", errors="replace")
        return self._text[path]

    def lines(self, path):
        return enumerate(self.text(path).splitlines(), start=1)

    def having(self, *suffixes):
        return [path for path in self.paths if path.endswith(suffixes)]

    def sources(self):
        return self.having(".cc", ".c", ".h", ".hpp")


def words_behind(body, keyword):
    """The words between `keyword` and the next all-capitals word of a CMake call."""
    found = []
    taking = False
    for word in re.sub(r"#.*", "", body).split():
        if re.fullmatch(r"[A-Z_]{4,}", word):
            taking = word == keyword
        elif taking:
            found.append(word)
    return found


def modules(tree):
    """name -> (folder, modules it DEPENDS on)"""
    found = {}
    for path in tree.having("CMakeLists.txt"):
        if path.startswith("tests/"):
            continue
        for name, body in MODULE.findall(tree.text(path)):
            found[name] = (os.path.dirname(path), set(words_behind(body, "DEPENDS")))
    return found


def reachable(name, known):
    seen, waiting = set(), [name]
    while waiting:
        current = waiting.pop()
        for dependency in known.get(current, ("", set()))[1]:
            if dependency not in seen:
                seen.add(dependency)
                waiting.append(dependency)
    return seen


def check_homes(tree):
    for path in tree.sources():
        if path.startswith(HOMES_FREE_FOR):
            continue
        for number, line in tree.lines(path):
            include = INCLUDE.match(line)
            if not include:
                continue
            for header, homes in HOMES.items():
                matches = include[2].startswith(header) if header.endswith("/") else include[2] == header
                if matches and not any((path + "/").startswith(home + "/") for home in homes):
                    yield Finding(path, number, "home",
                                  f"<{include[2]}> lives in {' and '.join(homes)}; use that module")


def check_module_includes(tree):
    known = modules(tree)
    for name, (folder, _) in known.items():
        allowed = reachable(name, known) | {name}
        for path in tree.sources():
            if os.path.dirname(path) != folder:
                continue
            for number, line in tree.lines(path):
                include = INCLUDE.match(line)
                if not include or include[1] != '"' or "/" not in include[2]:
                    continue
                first = include[2].split("/")[0]
                if first in known and first not in allowed and known[first][0] != folder:
                    yield Finding(path, number, "layer",
                                  f"module {name} does not depend on {first}; declare it or do without")


def check_own_path(tree):
    for name, (folder, _) in modules(tree).items():
        for path in tree.having(".h"):
            if os.path.dirname(path) != folder:
                continue
            own = f"// {name}/{os.path.basename(path)}: "
            parent = f"// {os.path.basename(folder)}/{os.path.basename(path)}: "
            if not tree.text(path).startswith((own, parent)):
                yield Finding(path, 1, "header", f"begin with '{own}' and one sentence")


def check_links(tree):
    for path in tree.having(".md"):
        fenced = False
        for number, line in tree.lines(path):
            if line.lstrip().startswith("```"):
                fenced = not fenced
            if fenced:
                continue
            for target in LINK.findall(line):
                if re.match(r"[a-z]+:", target) or target.startswith("#"):
                    continue
                file = os.path.normpath(os.path.join(os.path.dirname(path), target.split("#")[0]))
                if not (tree.root / file).exists():
                    yield Finding(path, number, "link", f"{target} does not exist")


def check_tests_registered(tree):
    registered = {}
    for path in tree.having("CMakeLists.txt"):
        if not path.startswith("tests/"):
            continue
        text = re.sub(r"#.*", "", tree.text(path)).replace("${CMAKE_CURRENT_SOURCE_DIR}/", "")
        words = re.findall(r"[\w./-]+_test\.(?:cc|c|py)\b", text)
        for variable, names in re.findall(r"foreach\(\s*(\w+)\s+([^)]*)\)", text):
            if "${%s}.cc" % variable in text:
                words += [name + ".cc" for name in names.split() if name.endswith("_test")]
        for word in words:
            file = os.path.normpath(os.path.join(os.path.dirname(path), word))
            registered[file] = registered.get(file, 0) + 1
    for path in tree.having("_test.cc", "_test.c", "_test.py"):
        if path not in registered:
            yield Finding(path, 1, "test", "name it in the CMakeLists.txt of its folder")


def check_readmes(tree):
    folders = {path.split("/")[1] for path in tree.paths
               if path.startswith("daemon/") and path.count("/") == 2 and path.endswith(".cc")}
    for folder in sorted(folders):
        path = f"daemon/{folder}/README.md"
        if path not in tree.paths:
            yield Finding(path, 1, "readme", "write one: what it is, " + ", ".join(README_HEADINGS))
            continue
        for heading in README_HEADINGS:
            if heading not in tree.text(path):
                yield Finding(path, 1, "readme", f"{heading} is missing")


def check_log_events(tree):
    seen = {}
    for path in tree.having(".cc"):
        if path.startswith("tests/"):
            continue
        text = tree.text(path)
        for match in LOG_EVENT.finditer(text):
            number = text.count("\n", 0, match.start()) + 1
            name = match[1]
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                yield Finding(path, number, "log", f"event name '{name}' is not snake_case")
            if name in seen and seen[name] != (path, number):
                other = seen[name]
                yield Finding(path, number, "log", f"'{name}' is logged at {other[0]}:{other[1]} too")
            seen.setdefault(name, (path, number))


def check_leftovers(tree):
    for path in tree.paths:
        if path.startswith("tests/tidy/") or path.endswith((".md", ".scd", ".bin")):
            continue
        for number, line in tree.lines(path):
            leftover = LEFTOVER.search(line)
            if leftover and "X" * 6 not in line:
                yield Finding(path, number, "leftover", f"do the {leftover[1]} or write an issue")


def budget_of(path):
    for prefix, suffix, lines in BUDGETS:
        if path.startswith(prefix) and path.endswith(suffix):
            return lines
    return None


def check_budgets(tree, long_files=None):
    excused = LONG_FILES if long_files is None else long_files
    for path in tree.sources():
        budget = budget_of(path)
        if budget is None:
            continue
        lines = tree.text(path).count("\n")
        if lines > budget and path not in excused:
            yield Finding(path, budget, "size", f"{lines} lines, at most {budget}; divide it")
    for path in excused:
        budget = budget_of(path)
        if path not in tree.paths or tree.text(path).count("\n") <= (budget or 0):
            yield Finding("tests/tidy/tidy.py", 1, "size", f"{path} needs no exception any more")


CHECKS = (check_homes, check_module_includes, check_own_path, check_links, check_tests_registered,
          check_readmes, check_log_events, check_leftovers, check_budgets)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--root", default=Path(__file__).resolve().parents[2])
    tree = Tree(parser.parse_args().root)
    if not tree.sources():
        print("tidy: found no sources", file=sys.stderr)
        return 1
    findings = [finding for check in CHECKS for finding in check(tree)]
    for finding in findings:
        print(finding)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
