"""Runs a guide as it stands: its commands and Python, in order, in an empty folder; and compares what they print.

A ```console block holds commands behind "$ " and lines that each prints among others, on stdout or stderr. One shell runs them all,
so variables and background jobs stay; a command that fails ends the run, so an exit code to be shown is printed (`; echo "exit $?"`).
A ```python block runs in this process, and the ```text block behind it is all that it prints. Heights, times, hashes and tokens may
differ. A reason in the guide's tables must be one that the node has.

guide.py FILE [DIR]: with the network in DIR, each of its nodes' folders lies in the folder under its organization's name, and Cedar's
as `dev` too, as the README's quick start has it. The built binaries are on the path.
"""

import contextlib
import io
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[3]
COMMAND_SECONDS = 60
MIN_STEPS = 5  # a guide with fewer has lost its blocks
VARYING = [
    (r"\b(height|block|heights verified  0 to) \d+", r"\1 N"),
    (r"\b(bytes|entries|operations|signatures|log size)( +)\d+", r"\1\2N"),
    (r"'height': '\d+'", "'height': 'N'"),
    (r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d+)?)?Z?", "TIME"),
    (r"\b[0-9a-f]{64}\b", "HASH"),
    (r"[a-z0-9-]+:\d+:[0-9a-f]{16}", "TOKEN"),
]


def plain(text):
    for pattern, name in VARYING:
        text = re.sub(pattern, name, text)
    return text.strip()


class Shell:
    """One bash for all commands of a guide. What it started ends with it."""

    def __init__(self):
        self.process = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
        self.unread = b""

    def run(self, command):
        """Exit status and output of a command. A node that it leaves in the background has started when this returns."""
        self.process.stdin.write(f"{{ {command}\n}} </dev/null\necho \"### $?\"\n".encode())
        self.process.stdin.flush()
        marks = [rb"(?m)^### (\d+)\n"] + [rb"node started"] * command.endswith("&")
        deadline = time.monotonic() + COMMAND_SECONDS
        while not all(re.search(mark, self.unread) for mark in marks):
            if not select.select([self.process.stdout], [], [], max(0, deadline - time.monotonic()))[0]:
                return "unknown: it takes too long", self.unread.decode(errors="replace")
            more = os.read(self.process.stdout.fileno(), 1 << 16)
            if not more:
                return "unknown: the shell has ended", self.unread.decode(errors="replace")
            self.unread += more
        status = re.search(marks[0], self.unread)[1].decode()
        said, self.unread = re.sub(marks[0], b"", self.unread).decode(errors="replace"), b""
        return status, said

    def close(self):
        """Ends it and its background jobs, in order where they can."""
        with contextlib.suppress(OSError):
            self.process.stdin.write(b"kill $(jobs -p) 2>/dev/null; wait\nexit\n")
            self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def blocks(guide):
    """Kind, text and number of the first line of each fenced block."""
    for found in re.finditer(r"^```(\w+)\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL):
        yield found[1], found[2], guide.count("\n", 0, found.start(2)) + 1


def console(shell, text, where):
    """Runs a block's commands; how many there are."""
    command, expected, ran = None, [], 0
    for line in [*text.splitlines(), "$ "]:
        if not line.startswith("$ "):
            expected.append(line)
            continue
        if command:
            status, said = shell.run(command)
            lines = plain(said).splitlines()
            missing = [wanted for wanted in expected if plain(wanted) not in map(str.strip, lines)]
            if status != "0" or missing:
                sys.exit(f"{where}: {command}\nexit {status}, without {missing}:\n{said}")
            ran += 1
        command, expected = line[2:], []
    return ran


def run(file, shell):
    """Runs all blocks; how many commands and Python blocks there are."""
    guide = file.read_text()
    shared, printed, ran = {}, "", 0
    for kind, text, line in blocks(guide):
        where = f"{file}, line {line}"
        if kind == "console":
            ran += console(shell, text, where)
        elif kind == "python":
            out = io.StringIO()
            code = compile("\n" * (line - 1) + text, file, "exec")
            with contextlib.redirect_stdout(out):
                exec(code, shared)
            printed, ran = out.getvalue(), ran + 1
        elif kind == "text" and plain(printed) != plain(text):
            sys.exit(f"{where}: printed\n{printed}instead of\n{text}")
    return ran


def unknown_reasons(file):
    """Reasons in the second column of tables that no source of the node has."""
    source = "".join(path.read_text() for path in (ROOT / "node/src").rglob("*.rs"))
    cells = re.findall(r"^\| [A-Z_]+ \| ([A-Z_, ]+) \|", file.read_text(), re.MULTILINE)
    return [reason for cell in cells for reason in cell.split(", ") if f'"{reason}"' not in source]


def places(network):
    """What lies in the guide's folder: as in the project's, and the network's nodes."""
    names = ["cli", "node", "proto", "testnet"]
    found = {name: ROOT / name for name in names} | {"venv": pathlib.Path(sys.prefix)}
    if network:
        nodes = json.loads((network / "network.json").read_text())["nodes"]
        found |= {node["organization"]: network / node["organization"] for node in nodes}
        found["dev"] = network / "cedar"
    return found


def main():
    file, *network = [pathlib.Path(argument).resolve() for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, place in places(*(network or [None])).items():
            os.symlink(place, name)
        sys.path.insert(0, "stubs")
        shell = Shell()
        try:
            ran = run(file, shell)
        finally:
            shell.close()
            for left in pathlib.Path(folder).glob("*/network.json"):  # a network that the guide started
                if not left.parent.is_symlink():
                    subprocess.run(["assent-testnet", "down", "--dir", left.parent], check=True, stdout=subprocess.DEVNULL)
    wrong = unknown_reasons(file)
    if ran < MIN_STEPS or wrong:
        sys.exit(f"{file}: {ran} commands and Python blocks ran; reasons that the node does not have: {wrong}")


if __name__ == "__main__":
    main()
